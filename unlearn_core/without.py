"""Take one delta out of the middle of a stack, and train those after it anew as if it had never been there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .config import ForgetConfig
from .delta import Delta
from .interfaces import BadSetting, HostModel, Progress
from .stack import Entry, Stack, lineage
from .train import Result, forget


@dataclass(frozen=True)
class Removal:
    """removed: the entry taken out. before: those under it. after: those over it, trained with it in place.

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
    names = ", ".join(f"'{e.delta.label}'" for e in later)
    said.append(
        f"{names} learned with '{label}' in place: they may now forget less or harm a little, and parts of "
        f"{concepts} may stay forgotten, since they were taught not to wake it. Train them anew for a clean stack."
    )
    own = {p for p, _ in removed.delta.info.prompts}
    mapped = [e.delta.label for e in later if own & {p for p, _ in e.delta.info.prompts}]
    if mapped:
        said.append(
            f"{', '.join(map(repr, mapped))} took over sentences of {concepts} that drew its own concept: "
            "those stay mapped until it is trained anew."
        )
    return said + [s for s in lineage(rest) if f"'{label}'" not in s]


def renamed(old: Entry, made: Result) -> Delta:
    """The new delta under the old one's name."""
    return Delta(made.delta.factors, made.delta.info, old.delta.name)


def retrain(
    host: HostModel,
    removal: Removal,
    progress: Callable[[int, int], Progress | None] = lambda i, n: None,
    keep: Callable[[Entry, Result], Delta] = renamed,
) -> Stack:
    """Train the later deltas anew in their order, each with its recorded settings and all before it as its teacher.

    progress: gives the callback for the i-th of n trainings. keep: called with the old entry and the new result as soon
    as one is ready (to save it); what it returns takes the old one's place, strength included. Raises `BadSetting`
    before any work when one has no recorded request, as a merge has none, and what `forget` raises.
    """
    configs = [recorded(e.delta) for e in removal.after]
    stack = removal.before
    for i, (old, config) in enumerate(zip(removal.after, configs, strict=True)):
        made = forget(host, config, stack, progress(i, len(configs)))
        stack = stack.with_delta(keep(old, made), old.strength)
    return stack


def recorded(delta: Delta) -> ForgetConfig:
    """The request that made a delta. Raises `BadSetting` when the file does not tell one that can be repeated."""
    if delta.info.merged:
        raise BadSetting(f"'{delta.label}' is a merge and has no request to repeat: give the deltas it was made of.")
    try:
        return ForgetConfig.from_flat(delta.info.config)
    except BadSetting as e:
        raise BadSetting(f"'{delta.label}' cannot be trained anew, its recorded settings are of no use: {e}") from e
