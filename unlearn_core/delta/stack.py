"""An ordered stack of deltas: what it holds, whether it fits a model, and its lineage."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import BadDelta, BadSetting
from .base_sample import Base
from .format import SUFFIX, Delta
from .info import DeltaInfo, Parent
from .paths import from_home

MAX_STRENGTH = 2.0
FORGETS = 0.75
"""Least strength at which a concept counts as gone: at a half more than half of its pictures are left."""
JOINT = " + "
"""Between the concepts and the anchors of a merge."""


@dataclass(frozen=True)
class Entry:
    """A delta at a strength: +1 is forgotten, 0 untouched. Raises `BadSetting` outside -2..2."""

    delta: Delta
    strength: float = 1.0

    def __post_init__(self) -> None:
        if not abs(self.strength) <= MAX_STRENGTH:
            raise BadSetting(
                f"The strength {self.strength} of '{self.delta.label}' is not from -2 to 2: use 1 to forget."
            )

    def contents(self) -> dict[str, float]:
        """{content hash: strength} of the delta itself and of all that is merged into it."""
        inside = {p.sha256: self.strength * p.strength for p in self.delta.info.merged}
        return {self.delta.content_hash(): self.strength, **inside}


@dataclass(frozen=True)
class Stack:
    """Deltas in the order they were learned in.

    withheld: what was to be forgotten on top of them and was not kept; it says nothing of the deltas themselves. Raises
    `BadDelta` when one acts twice, also inside a merge; what is switched off does not act.
    """

    entries: tuple[Entry, ...] = ()
    withheld: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for entry in self.active:
            contents = entry.contents().keys()
            if seen & contents:
                raise BadDelta(
                    f"'{entry.delta.label}' is already in the stack: it would act twice, so remove one of them."
                )
            seen |= contents

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    @property
    def active(self) -> tuple[Entry, ...]:
        """Entries of a strength other than 0."""
        return tuple(e for e in self.entries if e.strength)

    def with_delta(self, delta: Delta, strength: float = 1.0) -> Stack:
        """A new stack with one more delta on top."""
        return Stack((*self.entries, Entry(delta, float(strength))))

    def concepts(self) -> tuple[str, ...]:
        """All concepts that have gone, in order, those inside merges too; what is switched off has not."""
        return tuple(c for e in self.active for c in e.delta.info.concepts)

    def anchors(self) -> tuple[str, ...]:
        """What stands in for the concepts, each once."""
        return tuple(dict.fromkeys(a for e in self.active for a in e.delta.info.anchor.split(JOINT) if a))

    def prompts(self) -> tuple[tuple[str, str], ...]:
        """All (forget prompt, mapping) pairs, each once, for erasure replay."""
        return tuple(dict.fromkeys(pair for e in self.active for pair in e.delta.info.prompts))

    def near(self) -> tuple[str, ...]:
        """Terms around the concepts that were preserved, each once."""
        return tuple(dict.fromkeys(term for e in self.active for term in e.delta.info.near))

    def sources(self) -> dict[str, tuple[int, DeltaInfo]]:
        """{forget prompt: number of the active entry that it comes from, and what that delta says of itself}."""
        infos = [e.delta.info for e in self.active]
        return {p: (number, info) for number, info in enumerate(infos) for p, _ in info.prompts}

    def kinds(self) -> dict[str, str]:
        """{forget prompt: kind of the concept that it names}."""
        return {p: e.delta.info.kind for e in self.active for p, _ in e.delta.info.prompts}

    def parents(self) -> tuple[Parent, ...]:
        """How a delta that is made on top of this stack remembers it."""
        return tuple(
            Parent(e.delta.label, e.delta.content_hash(), e.strength, e.delta.info.concept) for e in self.active
        )


def parse_entry(text: str) -> tuple[Path, float]:
    """`FILE[:STRENGTH]` -> (path, strength); a drive letter is no strength. Raises `BadSetting`."""
    head, colon, tail = text.rpartition(":")
    if not text.strip() or (colon and not head):
        raise BadSetting(f"'{text}' names no delta: write FILE or FILE:STRENGTH.")
    if not colon or text.lower().endswith(SUFFIX) or "/" in tail or "\\" in tail:
        return from_home(text), 1.0
    try:
        strength = float(tail)
    except ValueError:
        strength = math.nan
    if not abs(strength) <= MAX_STRENGTH:
        raise BadSetting(f"'{tail}' in '{text}' is not a strength from -2 to 2: use 1 to forget.")
    return from_home(head), strength


class OtherBase(BadDelta):
    """A delta was made for another checkpoint than the loaded one."""


def check_fits(
    stack: Stack,
    base: Base | str,
    architecture: str,
    layer_names: Collection[str],
    title: str = "",
    prediction_type: str = "",
) -> int:
    """Number of the stack's layers, all of which the loaded model has.

    base: the loaded one, or of a host that takes no sample its fingerprint. layer_names: all names in delta files that
    the model's layers answer to. title: what the host calls its checkpoint. prediction_type: what the model is taken to
    predict, "" where that plays no part. Raises `OtherBase` for a delta made for another architecture or base,
    `BadDelta` for one of whose layers any is missing, or one without effect.
    """
    matched, known = 0, base if isinstance(base, Base) else Base(base)
    for entry in stack:
        delta, info = entry.delta, entry.delta.info
        if info.architecture != architecture:
            made_for = f" ('{info.base_name}')" if info.base_name else ""
            raise OtherBase(
                f"'{delta.label}' was made for a model of type {info.architecture}{made_for}, "
                f"but the loaded one is {architecture}: load the checkpoint that it was made for."
            )
        if not known.made(info.base_fingerprint, info.base_sample):
            raise OtherBase(other_base(delta, known, title))
        if prediction_type and info.prediction_type != prediction_type:
            raise BadDelta(
                f"'{delta.label}' was made on a model that predicts {info.prediction_type}, but the loaded one is "
                f"taken to predict {prediction_type}: load it as the delta says (--prediction {info.prediction_type})."
            )
        missing = [name for name in delta.factors if name not in layer_names]
        if len(missing) == len(delta.factors):
            raise BadDelta(f"No layer of '{delta.label}' is in the loaded model: it would do nothing, so remove it.")
        if missing:
            raise BadDelta(
                f"{len(missing)} of {len(delta.factors)} layers of '{delta.label}' are not in the loaded model "
                f"(first: {missing[0]}): load the checkpoint that it was made for."
            )
        delta.check_effect()
        matched += len(delta.factors)
    return matched


def other_base(delta: Delta, base: Base, title: str) -> str:
    """The sentence for a delta of another checkpoint than the loaded one, by names as far as they are known."""
    was, now = delta.info.base_name, title
    if was == now:
        # the same name for other weights, or no names at all
        was, now = ("", "") if not was else (f"'{was}' of other weights", f"'{now}'")
    else:
        was, now = (f"'{name}'" if name else "" for name in (was, now))
    was, now = was or f"the base {delta.info.base_fingerprint}", now or base.fingerprint
    copy = "with numbers of another type (bfloat16, fp8, quantised)"
    if base.sample and delta.info.base_sample:
        copy = "that was quantised or rounded in another way than ComfyUI rounds"
    return (
        f"'{delta.label}' was made for {was}, but the loaded checkpoint is {now}: load the one that it was made for. "
        f"A copy {copy} counts as another checkpoint."
    )


def lineage(stack: Stack) -> list[str]:
    """Sentences on where the stack differs from what its deltas were made on top of; empty when all is as it was.

    Entries and parents of strength 0 count as absent.
    """
    contents = [e.contents() for e in stack.active]
    return [
        sentence
        for number, entry in enumerate(stack.active)
        for sentence in (
            *changed_parents(entry, number, contents),
            *strangers_below(entry, stack.active[:number], contents[:number]),
        )
    ]


def changed_parents(entry: Entry, number: int, contents: Sequence[Mapping[str, float]]) -> Iterator[str]:
    """Sentences on parents of an active entry that are missing, come too late, or have another strength or order.

    number: the entry's place. contents: of all active entries.
    """
    place = {sha: (i, j) for i, inside in enumerate(contents) for j, sha in enumerate(inside)}
    label, parents = entry.delta.label, [p for p in entry.delta.info.parents if p.strength]
    below = []
    for p in parents:
        made = f"'{label}' was made on top of '{p.name}'"
        if p.sha256 not in place:
            yield f"{made}, which is not on the stack, or switched off."
            continue
        at = place[p.sha256]
        if at[0] >= number:
            yield f"{made}, which must come before it."
        else:
            below.append(at)
        if not math.isclose(now := contents[at[0]][p.sha256], p.strength, abs_tol=1e-6):
            yield f"{made} at strength {p.strength:g}, but its strength is {now:g} here."
    if below != sorted(below):
        names = ", ".join(f"'{p.name}'" for p in parents)
        yield f"'{label}' was made on top of {names} in this order, but the stack has another order."


def strangers_below(entry: Entry, others: Sequence[Entry], contents: Sequence[Mapping[str, float]]) -> Iterator[str]:
    """Sentences on entries below that an entry was made without. contents: of the others."""
    known = {p.sha256 for p in entry.delta.info.parents if p.strength}
    for other, inside in zip(others, contents, strict=True):
        whole, *merged = inside
        if whole not in known and not (merged and known.issuperset(merged)):
            yield f"'{entry.delta.label}' was made without '{other.delta.label}': look at pictures with both."
