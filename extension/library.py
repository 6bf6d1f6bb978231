"""The LoRA folder as a shelf of deltas, and the stack that the artist put together from it."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from safetensors import SafetensorError, safe_open

from ..unlearn_core import BadDelta, BadSetting, Delta, DeltaInfo, Stack, UnlearnError, load
from ..unlearn_core.delta.atomic import write_whole
from ..unlearn_core.delta.format import SUFFIX, read_info
from ..unlearn_core.delta.paths import contained, safe_file_name
from ..unlearn_core.delta.stack import MAX_STRENGTH

STATE = "unlearn_stack.json"
SLOTS = 12
"""Deltas that one stack holds; merge some to go on."""
FULL = f"The stack holds {SLOTS} deltas, which is the most: merge them first (Merge), then go on."
MOST_FILES = 5000
MOST_STATE = 2**16
PREVIEW = ".preview.png"


@dataclass(frozen=True)
class Card:
    """What the list shows of one delta. name: its path inside the folder, with slashes."""

    name: str
    info: DeltaInfo
    made: str
    size: int

    @property
    def stem(self) -> str:
        """The name that a `<lora:...>` tag calls it by."""
        return Path(self.name).stem


@dataclass(frozen=True)
class Row:
    """One delta of the stack. strength: +1 is forgotten, 0 untouched."""

    name: str
    strength: float = 1.0
    on: bool = True


def cards(folder: Path) -> list[Card]:
    """All deltas below a folder, newest first; other LoRAs and files that cannot be read are passed over."""
    found = []
    for file in sorted(folder.rglob("*" + SUFFIX))[:MOST_FILES]:
        try:
            facts = file.stat()
            info = described(str(file), facts.st_mtime_ns, facts.st_size)
        except OSError:
            continue
        if info is not None:
            made = datetime.fromtimestamp(facts.st_mtime)
            card = Card(file.relative_to(folder).as_posix(), info, f"{made:%Y-%m-%d %H:%M}", facts.st_size)
            found.append((facts.st_mtime_ns, card))
    return [card for _, card in sorted(found, key=lambda pair: (-pair[0], pair[1].name))]


@lru_cache(maxsize=2 * MOST_FILES)
def described(file: str, changed: int, size: int) -> DeltaInfo | None:
    """What a file says about itself, read off its header alone, or None. changed, size: so that a new file is read."""
    try:
        with safe_open(file, "pt", device="cpu") as opened:
            return read_info(opened.metadata() or {})
    except (UnlearnError, SafetensorError, OSError, RuntimeError, ValueError, AttributeError):
        return None


def free_file(folder: Path, wish: str) -> Path:
    """A file that does not exist yet: hosts go on showing what they read under a name before."""
    stem, number = safe_file_name(wish), 1
    while True:
        file = contained(folder, f"{stem}{'' if number == 1 else f'_{number}'}{SUFFIX}")
        if not file.exists():
            return file
        number += 1


class Shelf:
    """The stack in its order, lowest first, kept in a small file in the folder so that it is there tomorrow."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._lock = threading.RLock()

    def rows(self) -> tuple[Row, ...]:
        """The stack as it was left; rows whose file is gone are dropped. A damaged state file is an empty stack."""
        try:
            with open(self.folder / STATE, "rb") as file:
                stored = json.loads(file.read(MOST_STATE))
            rows = [self.checked(Row(r["name"], float(r["strength"]), bool(r["on"]))) for r in stored]
        except (OSError, ValueError, TypeError, KeyError, RecursionError, UnlearnError):
            return ()
        return tuple({r.name: r for r in rows if (self.folder / r.name).is_file()}.values())[:SLOTS]

    def check_room(self, name: str = "") -> None:
        """Raise `BadSetting` when there is no room for one more delta; `name` takes its own place anew."""
        if len([r for r in self.rows() if r.name != name]) >= SLOTS:
            raise BadSetting(FULL)

    def set(self, rows: tuple[Row, ...]) -> tuple[Row, ...]:
        """Keep these rows. Raises `UnlearnError` for too many, for one twice, or for a name outside the folder."""
        rows = tuple(self.checked(r) for r in rows)
        if len(rows) > SLOTS:
            raise BadSetting(FULL)
        if len({r.name for r in rows}) < len(rows):
            raise BadDelta("One delta is in the stack twice: it would act twice, so take one out.")
        if rows != self.rows():
            plain = [{"name": r.name, "strength": r.strength, "on": r.on} for r in rows]
            write_whole(self.folder / STATE, json.dumps(plain, indent=1).encode())
        return rows

    def checked(self, row: Row) -> Row:
        """The row with its name as a path inside the folder; raises `UnlearnError`."""
        if not isinstance(row.name, str) or not row.name.endswith(SUFFIX):
            raise BadDelta(f"A delta's file ends in {SUFFIX}.")
        path = contained(self.folder, row.name)
        if not (isinstance(row.strength, (int, float)) and abs(row.strength) <= MAX_STRENGTH):
            raise BadSetting(f"Strengths go from -{MAX_STRENGTH:g} to {MAX_STRENGTH:g}: use 1 to forget.")
        return replace(row, name=path.relative_to(self.folder.resolve()).as_posix())

    def put(self, name: str, on: bool = True) -> tuple[Row, ...]:
        """Put one more delta on top, at strength 1. Raises `BadSetting` when the stack is full."""
        with self._lock:
            self.check_room(name)
            return self.set((*(r for r in self.rows() if r.name != name), Row(name, on=on)))

    def take_out(self, name: str) -> tuple[Row, ...]:
        """Take one off the stack; its file stays."""
        with self._lock:
            return self.set(tuple(r for r in self.rows() if r.name != name))

    def move(self, name: str, by: int) -> tuple[Row, ...]:
        """Move one up (-1, is learned earlier) or down (+1)."""
        with self._lock:
            rows = list(self.rows())
            at = next((i for i, r in enumerate(rows) if r.name == name), None)
            if at is not None and 0 <= at + by < len(rows):
                rows.insert(at + by, rows.pop(at))
            return self.set(tuple(rows))

    def delete(self, name: str) -> None:
        """Delete a delta's file and its picture for good. Raises `BadDelta` when it is no delta of this tool."""
        file = contained(self.folder, name)
        load(file)
        self.take_out(name)
        file.unlink(missing_ok=True)
        file.with_suffix(PREVIEW).unlink(missing_ok=True)

    def stack(self, rows: tuple[Row, ...]) -> Stack:
        """The deltas of the rows that are switched on, read from their files."""
        stack = Stack()
        for row in rows:
            if row.on and row.strength:
                stack = stack.with_delta(self.delta(row.name), row.strength)
        return stack

    def delta(self, name: str) -> Delta:
        """One delta of the folder. Raises `BadDelta`."""
        return load(contained(self.folder, name))
