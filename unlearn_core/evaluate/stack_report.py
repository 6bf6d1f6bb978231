"""What a whole stack has forgotten and preserved, as the base model sees it: the check's numbers for any stack."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from ..delta.stack import Stack
from ..device_memory import small_passes
from ..host import HostModel
from ..recipe import OBJECT
from ..sampling import Sampler
from ..words.prompts import Scene, scenes, spread
from ..words.vocabulary import bundled
from ..words.word_list import WordList
from .evaluator import Reader, neighbours_in_list

PICTURES, PRESERVED, PRESERVED_PICTURES, RIVALS = 8, 12, 2, 3
"""Pictures of a forgotten concept; other concepts, pictures of each, and rivals of each reading."""
STEPS, GUIDANCE = 8, 3.0


@dataclass(frozen=True)
class Forgotten:
    """A concept that a stack has forgotten, as one asks for it: its kind, its anchor ("" where unknown), its scenes."""

    concept: str
    kind: str
    anchor: str
    scenes: tuple[Scene, ...]


@dataclass(frozen=True)
class StackReport:
    """generated: {forgotten concept: share of its pictures that still show it}. preserved: share of others read right.

    Both 0..1.
    """

    generated: dict[str, float]
    preserved: float

    def line(self, name: str) -> str:
        """For the command line."""
        worst = max(self.generated, key=lambda c: self.generated[c], default="")
        mean = sum(self.generated.values()) / max(1, len(self.generated))
        most = f" (most: '{worst}' {self.generated[worst]:.0%})" if mean else ""
        return f"check, {name}: forgotten concepts still generated {mean:.1%}{most}, others right {self.preserved:.1%}"


def report_on(
    host: HostModel,
    stacks: Sequence[Stack],
    whole: Stack,
    seed: int = 0,
    tick: Callable[[], None] = lambda: None,
) -> list[StackReport]:
    """Draw with each stack and read with the base model, which still knows everything; same noise for all.

    whole: its concepts are asked for. Other concepts are drawn from the word list.
    """
    host, words = small_passes(host), WordList.load(host.words_file)
    if not (host.words_file and words.complete):
        words = replace(words, vocabulary=bundled())
    forgotten = [asked_for(words, row, seed) for row in contents(whole)]
    rest = words.without([f.concept for f in forgotten])
    others = [
        (o, s)
        for o in spread(rest.all_objects, PRESERVED, seed)
        for s in scenes(rest, o, "object", PRESERVED_PICTURES, seed)
    ]
    prompts = [s.prompt for f in forgotten for s in f.scenes] + [s.prompt for _, s in others]
    sampler = Sampler(host, STEPS, GUIDANCE, tick)
    reader = Reader(host, words, OBJECT.reading_levels, seed, tick)
    found = []
    for stack in stacks:
        with host.session(stack):
            drawn = sampler.draw(host.encode(prompts), seed)
        with host.session(Stack()):
            found.append(read(reader, forgotten, others, drawn))
    return found


def read(
    reader: Reader, forgotten: Sequence[Forgotten], others: Sequence[tuple[str, Scene]], drawn: Tensor
) -> StackReport:
    """One stack's pictures `[prompts, c, h, w]`, those of the forgotten concepts first, as shares 0..1."""
    shares, at = {}, 0
    for f in forgotten:
        errors = reader.target_errors(f.scenes, f.kind, f.anchor, drawn[at : at + len(f.scenes)])
        shares[f.concept] = float((errors.argmin(1) == 0).float().mean())
        at += len(f.scenes)
    if not others:
        return StackReport(shares, 1.0)
    right = reader.shares_right(others, neighbours_in_list(others, RIVALS), drawn[at:])
    return StackReport(shares, sum(right.values()) / len(right))


def asked_for(words: WordList, row: Forgotten, seed: int) -> Forgotten:
    """The same with its kind and its scenes."""
    kind = row.kind or words.kind(row.concept)
    return replace(row, kind=kind, scenes=tuple(scenes(words, row.concept, kind, PICTURES, seed)))


def contents(stack: Stack) -> list[Forgotten]:
    """All that a stack forgets; a merge's parts have no kind and no anchor of their own."""
    rows: list[Forgotten] = []
    for entry in stack:
        info = entry.delta.info
        if info.merged:
            rows += [Forgotten(c, "", "", ()) for c in info.concepts]
        else:
            rows.append(Forgotten(info.concept, info.kind, info.anchor, ()))
    return rows
