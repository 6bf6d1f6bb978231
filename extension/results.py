"""What finished jobs hand to the page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..unlearn_core import Cancelled, UnlearnError


def in_prompt(name: str, strength: float) -> str:
    """A delta as a web UI's prompt names it."""
    return f"<lora:{name}:{strength:g}>"


def with_tags(prompt: str, tags: str) -> str:
    """A prompt with deltas as a web UI names them; what it has of them already may have another strength or order."""
    names = "|".join(map(re.escape, re.findall(r"<lora:([^:<>]+):", tags)))
    rest = re.sub(rf"\s*<lora:(?:{names}):[^<>]*>", "", prompt).strip()
    return f"{rest} {tags}".strip()


@dataclass(frozen=True)
class Pair:
    """One prompt's picture before and after, as addresses; after is "" where there is none."""

    prompt: str
    before: str
    after: str


@dataclass(frozen=True)
class ForgetResult:
    """A new delta. name: its path inside the folder. report: the run's.

    pairs: pictures of the target; others: of what should stay; extra: of the artist's own prompts.

    file: None where nothing was saved, since the delta harms too much; its name is "" then.
    below: what it was made on top of, as a text for a prompt. on: whether it acts in the stack.
    earlier: the same of the other concepts of one wish, in their order.
    """

    file: Path | None
    name: str
    report: dict
    pairs: tuple[Pair, ...]
    extra: tuple[Pair, ...] = ()
    others: tuple[Pair, ...] = ()
    remark: str = ""
    on: bool = True
    earlier: tuple[ForgetResult, ...] = ()
    below: str = ""

    @property
    def tag(self) -> str:
        """The text that switches the delta on in a web UI's prompt, "" where there is none."""
        return in_prompt(self.file.stem, 1) if self.file else ""


@dataclass(frozen=True)
class PreviewResult:
    """Pictures without and with the stack, and the file that they were saved in."""

    pairs: tuple[Pair, ...]
    file: Path


@dataclass(frozen=True)
class CandidatesResult:
    """What could be drawn in the concept's place: (name, address of its picture), nearest first."""

    concept: str
    shown: tuple[tuple[str, str], ...]


def paired(prompts: Sequence[str], before: Sequence[str], after: Sequence[str]) -> tuple[Pair, ...]:
    """Prompts with their addresses; after may be empty, and before as well."""
    return tuple(Pair(p, b, after[i] if after else "") for i, (p, b) in enumerate(zip(prompts, before, strict=False)))


def together(made: list[ForgetResult], left: Sequence[str] = ()) -> ForgetResult:
    """Several concepts' results as one. left: what a stop has left undone."""
    *earlier, last = made
    undone = f"Not forgotten, because you stopped: {', '.join(map(repr, left))}." if left else ""
    return replace(last, earlier=tuple(earlier), remark=" ".join(filter(None, [undone, last.remark])))


def told_after(made: Sequence[ForgetResult], concept: str, error: UnlearnError, left: Sequence[str]) -> UnlearnError:
    """What went wrong with one concept, said beside those that are done. left: those that were not begun."""
    if not made:
        return error
    stopped = isinstance(error, Cancelled)
    why = "you stopped" if stopped else str(error).removesuffix(".")
    more = f" Not begun: {', '.join(map(repr, left))}." if left else ""
    again = " Start makes the rest of the list." if stopped else ""
    kind = Cancelled if stopped else UnlearnError
    return kind(f"'{concept}' was not forgotten: {why}.{more} What came before it is saved, see below.{again}")
