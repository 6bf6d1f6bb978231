"""The stack that the artist has put together from the deltas in the folder."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..unlearn_core import BadDelta, BadSetting, Delta, Stack, UnlearnError, load
from ..unlearn_core.delta.atomic import write_whole
from ..unlearn_core.delta.format import SUFFIX
from ..unlearn_core.delta.paths import linked
from ..unlearn_core.delta.stack import MAX_STRENGTH
from ..unlearn_core.untrusted import Unreadable, read_json
from .delta_library import CARD_PICTURE

STATE = "unlearn_stack.json"
SLOTS = 12
"""Deltas that one stack holds; merge some to go on."""
FULL = f"The stack is full ({SLOTS} deltas): merge some of them in the Stack tab, then go on."
STALE = "The stack was changed in another page or by a job. It is shown as it is now: do it again if you still want to."
BEGIN_ANEW = "Mend it, or remove its line in the Stack tab to begin with an empty stack."
UNREAD = f"The stack's file {STATE} cannot be read. {BEGIN_ANEW}"
MEND = "Set it right, switch it off or remove it."
SHOWN = 80
"""Characters of a name that nobody has checked."""
MOST_STATE = 2**16
LOCK = threading.RLock()
"""Two pages may change the stack at once."""


@dataclass(frozen=True)
class Row:
    """One delta of the stack. strength: +1 is forgotten, 0 untouched.

    wrong: why it cannot be used, or "". Only then strength and switch may be None, where they are no values.
    """

    name: str
    strength: float | None = 1.0
    on: bool | None = True
    wrong: str = ""

    @property
    def acts(self) -> bool:
        """Whether it takes part; what cannot be used counts until it is switched off, so that nobody misses it."""
        return self.on is not False and self.strength != 0


class StackFile:
    """The stack in its order, lowest first, in a small file in the folder of the deltas."""

    def __init__(self, folder: Path):
        self.folder = folder

    def rows(self) -> tuple[Row, ...]:
        """The stack as it was left; rows whose file is gone are dropped, and those that cannot be used are marked.

        A state file that cannot be read is one such row, and is not written over before it is taken out.
        """
        state = self.folder / STATE
        if not os.path.lexists(state):
            return ()
        try:
            rows = [self.marked(row) for row in rows_in(read_json(state, MOST_STATE))]
        except (OSError, Unreadable) as e:
            why = (e.strerror if isinstance(e, OSError) else "") or str(e)
            return (Row(STATE, None, None, f"The stack's file cannot be read: {why}. {BEGIN_ANEW}"),)
        return tuple({r.name: r for r in rows if r.wrong or self.may_be_there(r.name)}.values())[:SLOTS]

    def may_be_there(self, name: str) -> bool:
        """Whether a file or a link has this name, or its folder may be on a disk that comes back."""
        file = self.folder / name
        return os.path.lexists(file) or not os.path.isdir(file.parent)

    def marked(self, row: Row) -> Row:
        """The row, with what is wrong with it."""
        try:
            return self.checked(replace(row, wrong=""))
        except UnlearnError as e:
            return replace(row, wrong=f"{e} {MEND}")

    def check_room(self, count: int = 1, name: str = "") -> None:
        """Raise `BadSetting` when there is no room for so many more deltas; `name` takes its own place anew."""
        room = SLOTS - len([r for r in self.rows() if r.name != name])
        if 0 < room < count:
            raise BadSetting(
                f"The stack has room for {room} more, and {count} are asked for: name fewer, or merge some in the "
                "Stack tab."
            )
        if room < count:
            raise BadSetting(FULL)

    def set(self, rows: tuple[Row, ...]) -> tuple[Row, ...]:
        """Keep these rows, marked ones as they are.

        Raises `UnlearnError` for too many, for one twice, or for a name outside the folder.
        """
        if STATE in [r.name for r in rows]:
            raise BadSetting(UNREAD)
        rows = tuple(r if r.wrong else self.checked(r) for r in rows)
        if len(rows) > SLOTS:
            raise BadSetting(FULL)
        if len({r.name for r in rows}) < len(rows):
            raise BadDelta("One delta is in the stack twice, so it would act twice: take one out.")
        if rows != self.rows():
            plain = [{"name": r.name, "strength": r.strength, "on": r.on} for r in rows]
            write_whole(self.folder / STATE, json.dumps(plain, indent=1).encode())
        return rows

    def checked(self, row: Row) -> Row:
        """The row with its name as a path inside the folder. Raises `UnlearnError`.

        Links there are followed, as hosts do: who moves a file to another disk leaves one in its place.
        """
        if not isinstance(row.name, str) or not row.name.endswith(SUFFIX):
            raise BadDelta(f"A delta's file ends in {SUFFIX}.")
        path = linked(self.folder, row.name)
        check_values(row)
        name = path.relative_to(self.folder.resolve()).as_posix()
        return replace(row, name=name, strength=float(row.strength or 0))

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

        Raises `BadSetting` for what is not in the stack any more, and for what is no value.
        """
        check_values(Row(name, **values))
        with LOCK:
            rows = self.rows()
            if name not in [r.name for r in rows]:
                raise BadSetting(STALE)
            return self.set(tuple(self.marked(replace(r, **values)) if r.name == name else r for r in rows))

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
        """Delete a delta's file and its picture for good; of a link what it leads to stays.

        Raises `BadDelta` when it is no delta of this tool.
        """
        file = linked(self.folder, name)
        load(file)
        self.take_out(name)
        file.unlink(missing_ok=True)
        file.with_suffix(CARD_PICTURE).unlink(missing_ok=True)

    def stack(self, rows: tuple[Row, ...]) -> Stack:
        """The deltas of the rows that act, read from their files. Raises `UnlearnError` where one cannot be used."""
        stack = Stack()
        for row in rows:
            if row.acts and row.wrong:
                raise BadSetting(f"In the Stack tab '{row.name[:SHOWN]}' cannot be used. {row.wrong}")
            if row.acts:
                stack = stack.with_delta(self.delta(row.name), row.strength or 0)
        return stack

    def delta(self, name: str) -> Delta:
        """One delta of the folder. Raises `BadDelta`."""
        return load(linked(self.folder, name))


def rows_in(stored: Any) -> list[Row]:
    """The rows of a state file that anybody may have written. Raises `Unreadable` for what is no list."""
    if not isinstance(stored, list):
        raise Unreadable("it is no list")
    return [row_of(entry, number) for number, entry in enumerate(stored, 1)]


def row_of(entry: Any, number: int) -> Row:
    """One row as it was written, with None for what is no value; what has no name is called by its number."""
    facts = entry if isinstance(entry, dict) else {}
    name, strength, on = (facts.get(key) for key in ("name", "strength", "on"))
    return Row(
        name if isinstance(name, str) else f"Line {number}",
        strength if is_strength(strength) else None,
        on if isinstance(on, bool) else None,
    )


def is_strength(value: Any) -> bool:
    """Whether it is a number within the bounds."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= MAX_STRENGTH


def check_values(row: Row) -> None:
    """Raise `BadSetting` for what is no strength and no switch."""
    if not is_strength(row.strength):
        raise BadSetting(f"Strengths go from -{MAX_STRENGTH:g} to {MAX_STRENGTH:g}: use 1 to forget.")
    if not isinstance(row.on, bool):
        raise BadSetting("A delta is switched on or off: tick its box or not.")
