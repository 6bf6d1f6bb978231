"""The stack that the artist has put together from the deltas in the folder."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..unlearn_core import BadDelta, BadSetting, Delta, Stack, UnlearnError, load
from ..unlearn_core.delta.atomic import write_whole
from ..unlearn_core.delta.format import SUFFIX
from ..unlearn_core.delta.paths import contained
from ..unlearn_core.delta.stack import MAX_STRENGTH
from ..unlearn_core.untrusted import read_json
from .delta_library import CARD_PICTURE

STATE = "unlearn_stack.json"
SLOTS = 12
"""Deltas that one stack holds; merge some to go on."""
FULL = f"The stack is full ({SLOTS} deltas): merge some of them in the Stack tab, then go on."
STALE = "The stack was changed in another page or by a job. It is shown as it is now: do it again if you still want to."
MOST_STATE = 2**16
LOCK = threading.RLock()
"""Two pages may change the stack at once."""


@dataclass(frozen=True)
class Row:
    """One delta of the stack. strength: +1 is forgotten, 0 untouched."""

    name: str
    strength: float = 1.0
    on: bool = True


class StackFile:
    """The stack in its order, lowest first, in a small file in the folder of the deltas."""

    def __init__(self, folder: Path):
        self.folder = folder

    def rows(self) -> tuple[Row, ...]:
        """The stack as it was left; rows whose file is gone are dropped. A damaged state file is an empty stack."""
        try:
            stored = read_json(self.folder / STATE, MOST_STATE)
            rows = [self.checked(Row(r["name"], r["strength"], bool(r["on"]))) for r in stored]
        except (OSError, ValueError, TypeError, KeyError, UnlearnError):
            return ()
        return tuple({r.name: r for r in rows if (self.folder / r.name).is_file()}.values())[:SLOTS]

    def check_room(self, count: int = 1, name: str = "") -> None:
        """Raise `BadSetting` when there is no room for so many more deltas; `name` takes its own place anew."""
        if len([r for r in self.rows() if r.name != name]) + count > SLOTS:
            raise BadSetting(FULL)

    def set(self, rows: tuple[Row, ...]) -> tuple[Row, ...]:
        """Keep these rows. Raises `UnlearnError` for too many, for one twice, or for a name outside the folder."""
        rows = tuple(self.checked(r) for r in rows)
        if len(rows) > SLOTS:
            raise BadSetting(FULL)
        if len({r.name for r in rows}) < len(rows):
            raise BadDelta("One delta is in the stack twice, so it would act twice: take one out.")
        if rows != self.rows():
            plain = [{"name": r.name, "strength": r.strength, "on": r.on} for r in rows]
            write_whole(self.folder / STATE, json.dumps(plain, indent=1).encode())
        return rows

    def checked(self, row: Row) -> Row:
        """The row with its name as a path inside the folder; raises `UnlearnError`."""
        if not isinstance(row.name, str) or not row.name.endswith(SUFFIX):
            raise BadDelta(f"A delta's file ends in {SUFFIX}.")
        path = contained(self.folder, row.name)
        number = isinstance(row.strength, (int, float)) and not isinstance(row.strength, bool)
        if not (number and abs(row.strength) <= MAX_STRENGTH):
            raise BadSetting(f"Strengths go from -{MAX_STRENGTH:g} to {MAX_STRENGTH:g}: use 1 to forget.")
        if not isinstance(row.on, bool):
            raise BadSetting("A delta is switched on or off: tick its box or not.")
        name = path.relative_to(self.folder.resolve()).as_posix()
        return replace(row, name=name, strength=float(row.strength))

    def put(self, name: str, on: bool = True) -> tuple[Row, ...]:
        """Put one more delta on top, at strength 1. Raises `BadSetting` when the stack is full."""
        with LOCK:
            self.check_room(name=name)
            return self.set((*(r for r in self.rows() if r.name != name), Row(name, on=on)))

    def put_in_place(self, gone: Sequence[Row], new: Row) -> tuple[Row, ...]:
        """Put one delta on top in place of some rows; what another page has added meanwhile stays."""
        with LOCK:
            return self.set((*(r for r in self.rows() if r not in gone), new))

    def change(self, name: str, **values: Any) -> tuple[Row, ...]:
        """Set the strength or the switch of one row alone: whatever another page has set of the rest stays.

        Raises `BadSetting` for what is not in the stack any more.
        """
        with LOCK:
            rows = self.rows()
            if name not in [r.name for r in rows]:
                raise BadSetting(STALE)
            return self.set(tuple(replace(r, **values) if r.name == name else r for r in rows))

    def take_out(self, name: str) -> tuple[Row, ...]:
        """Take one off the stack; its file stays."""
        with LOCK:
            return self.set(tuple(r for r in self.rows() if r.name != name))

    def move(self, name: str, by: int) -> tuple[Row, ...]:
        """Move one up (-1, is learned earlier) or down (+1)."""
        with LOCK:
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
        file.with_suffix(CARD_PICTURE).unlink(missing_ok=True)

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
