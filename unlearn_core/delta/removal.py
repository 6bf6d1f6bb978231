"""Take one delta out of the middle of a stack, and say what that means."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import BadSetting
from .stack import Entry, Stack, lineage


@dataclass(frozen=True)
class Removal:
    """removed: the entry taken out. before: those under it. after: those over it, made with it in place.

    rest: the stack without it, as it is. notes: what that means, in sentences.
    """

    removed: Entry
    before: Stack
    after: tuple[Entry, ...]
    rest: Stack
    notes: tuple[str, ...]


def without(stack: Stack, name: str) -> Removal:
    """Take out the one delta that has this file stem or forgets this concept. Raises `BadSetting`."""
    wanted = name.strip().casefold()
    labels = [i for i, e in enumerate(stack) if e.delta.label.casefold() == wanted]
    concepts = [i for i, e in enumerate(stack) if wanted in (c.casefold() for c in e.delta.info.concepts)]
    found = labels or concepts
    if len(found) != 1:
        known = ", ".join(f"'{e.delta.label}' ({', '.join(e.delta.info.concepts)})" for e in stack) or "nothing"
        what = "There is no" if not found else "There is more than one"
        raise BadSetting(f"{what} delta '{name}' in the stack; it holds {known}: give one of these names.")
    at = found[0]
    removed = stack.entries[at]
    if not labels and len(removed.delta.info.concepts) > 1:
        raise BadSetting(
            f"'{name}' is merged into '{removed.delta.label}', which cannot be taken apart: "
            "merge its parts again without it."
        )
    rest = Stack((*stack.entries[:at], *stack.entries[at + 1 :]))
    return Removal(removed, Stack(stack.entries[:at]), stack.entries[at + 1 :], rest, tuple(notes(removed, rest, at)))


def notes(removed: Entry, rest: Stack, at: int) -> list[str]:
    """What taking it out means for the artist's model, in sentences."""
    label, concepts = removed.delta.label, " and ".join(f"'{c}'" for c in removed.delta.info.concepts)
    said = [f"Without '{label}' the model draws {concepts} again."]
    later = rest.entries[at:]
    if not later:
        return said
    names, were = ", ".join(f"'{e.delta.label}'" for e in later), "were" if len(later) > 1 else "was"
    said.append(
        f"{names} {were} made with '{label}' in place and may now forget less or harm a little; parts of {concepts} "
        "may stay forgotten. Make what comes after it anew for a clean stack."
    )
    own = {p for p, _ in removed.delta.info.prompts}
    mapped = [e.delta.label for e in later if own & {p for p, _ in e.delta.info.prompts}]
    if mapped:
        said.append(
            f"{', '.join(map(repr, mapped))} took over prompts of {concepts} that drew its own concept: "
            "those stay mapped until it is made anew."
        )
    return said + [s for s in lineage(rest) if f"'{label}'" not in s]
