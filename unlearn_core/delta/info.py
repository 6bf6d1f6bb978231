"""What a delta says about itself: facts that travel in its file, checked as if they were hostile."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import BadDelta
from .base_sample import Base, BaseSample

KINDS = ("object", "style")
MAX_TEXT = 1000
MAX_ROWS = 10_000
MAX_CONCEPT = 120
MAX_SAMPLE = 2**15


def checked_text(value: Any, what: str, limit: int = MAX_CONCEPT) -> str:
    """`value` when it is one line of at most `limit` visible characters, else `BadDelta`."""
    if not isinstance(value, str) or len(value) > limit or not value.isprintable():
        raise BadDelta(f"The delta's {what} is not a line of at most {limit} readable characters.")
    return value


def checked_number(value: Any, what: str) -> float:
    """`value` as a finite float, or `BadDelta`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e300:
        raise BadDelta(f"The delta's {what} is not a finite number.")
    return float(value)


def checked_json(value: Any, what: str, depth: int = 6) -> Any:
    """A copy of plain data (numbers, lines of text, lists, dicts; tuples become lists), or `BadDelta`."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return checked_text(value, what, MAX_TEXT)
    if isinstance(value, int) and abs(value) < 2**63:
        return value
    if isinstance(value, float):
        return checked_number(value, what)
    if isinstance(value, (list, tuple, dict)) and depth and len(value) <= MAX_ROWS:
        if isinstance(value, dict):
            return {checked_text(k, what): checked_json(v, what, depth - 1) for k, v in value.items()}
        return [checked_json(v, what, depth - 1) for v in value]
    raise BadDelta(f"The delta's {what} is not plain data of a sensible size.")


@dataclass(frozen=True)
class Parent:
    """A delta that another one was made on top of, or that a merge contains.

    sha256: its `Delta.content_hash`, so that it is recognised under any file name. strength: +1 is forgotten.
    """

    name: str
    sha256: str
    strength: float
    concept: str

    def __post_init__(self) -> None:
        checked_text(self.name, "parent's name", 255)
        checked_text(self.concept, "parent's concept")
        if not re.fullmatch("[0-9a-f]{64}", checked_text(self.sha256, "parent's hash")):
            raise BadDelta("The delta's parent's hash is not a sha256.")
        object.__setattr__(self, "strength", checked_number(self.strength, "parent's strength"))

    @property
    def in_words(self) -> str:
        """Its concept, with the strength where that is not 1."""
        return self.concept if self.strength == 1 else f"{self.concept} at strength {self.strength:g}"


@dataclass(frozen=True)
class DeltaInfo:
    """What a delta says about itself; everything here is written into the file. Raises `BadDelta`.

    kind: "object" or "style". prompts: (forget prompt, what it was mapped to) pairs, replayed by later requests.
    parents: the stack that it was made on, in order. merged: what is inside when this is a merge, else empty.
    stopped: "" or a remark like "stopped at step 12". config and check: plain JSON data.
    base_name: what the host called the checkpoint, as a rule the name of its file; "" where it was not known.
    base_sample: some of its numbers (see `BaseSample`), "" where the host takes none.
    near: terms of the vocabulary around the concept that were preserved, and are by later requests.
    """

    concept: str
    kind: str
    anchor: str
    architecture: str
    prediction_type: str
    base_fingerprint: str
    parents: tuple[Parent, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)
    prompts: tuple[tuple[str, str], ...] = ()
    check: dict[str, Any] = field(default_factory=dict)
    steps: int = 0
    stopped: str = ""
    merged: tuple[Parent, ...] = ()
    base_name: str = ""
    base_sample: str = ""
    near: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._check_own()
        self._check_lists()
        for name in ("config", "check"):
            if not isinstance(getattr(self, name), Mapping):
                raise BadDelta(f"The delta's {name} is not a table of names and values.")
            object.__setattr__(self, name, checked_json(dict(getattr(self, name)), name))

    def _check_own(self) -> None:
        base = ("architecture", "prediction_type", "base_fingerprint", "base_name")
        for name in ("concept", "anchor", *base, "stopped"):
            checked_text(getattr(self, name), name)
        checked_text(self.base_sample, "base_sample", MAX_SAMPLE)
        if self.base_sample:
            BaseSample.read(self.base_sample)
        if not self.concept:
            raise BadDelta("The delta does not name what it forgets.")
        if self.kind not in KINDS:
            raise BadDelta(f"The delta's kind is neither of {' and '.join(KINDS)}.")
        if not isinstance(self.steps, int) or isinstance(self.steps, bool) or self.steps < 0:
            raise BadDelta("The delta's number of steps is not a whole number.")

    def _check_lists(self) -> None:
        rows = (*self.parents, *self.merged)
        if len(rows) + len(self.prompts) > MAX_ROWS or not all(isinstance(p, Parent) for p in rows):
            raise BadDelta("The delta's lists of parents and prompts are too long or not such lists.")
        pairs = tuple((p, q) for p, q in self.prompts)
        for text in (t for pair in pairs for t in pair):
            checked_text(text, "prompt", MAX_TEXT)
        object.__setattr__(self, "prompts", pairs)
        if not isinstance(self.near, (list, tuple)) or len(self.near) > MAX_ROWS:
            raise BadDelta("The delta's near terms are too many or not a list.")
        object.__setattr__(self, "near", tuple(checked_text(t, "near term") for t in self.near))

    @property
    def base(self) -> Base:
        """The model that it was made for."""
        return Base(self.base_fingerprint, BaseSample.read(self.base_sample) if self.base_sample else None)

    @property
    def concepts(self) -> tuple[str, ...]:
        """All concepts that it forgets: one, or those of the merged deltas."""
        return tuple(p.concept for p in self.merged) or (self.concept,)
