"""What a whole stack has forgotten and kept, as the model sees it: the judge's numbers for merges and removals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..delta.stack import Stack
from ..host import HostModel
from ..sampling import sample
from ..words.prompts import REMOVED, Scene, mapped, place, scenes, spread
from ..words.word_list import WordList
from .diffusion_classifier import read_as

PICTURES, KEPT, KEPT_PICTURES, RIVALS = 8, 12, 2, 3
STEPS, GUIDANCE = 8, 3.0


@dataclass(frozen=True)
class Review:
    """drawn: {forgotten concept: share of its pictures that still show it}. kept: share of others that are right."""

    drawn: dict[str, float]
    kept: float

    def line(self, name: str) -> str:
        """For the command line."""
        worst = max(self.drawn, key=lambda c: self.drawn[c], default="")
        mean = sum(self.drawn.values()) / max(1, len(self.drawn))
        most = f" (most: '{worst}' {self.drawn[worst]:.0%})" if mean else ""
        return f"judge, {name}: forgotten concepts still drawn {mean:.1%}{most}, others right {self.kept:.1%}"


def review(
    host: HostModel,
    stacks: Sequence[Stack],
    concepts: Sequence[tuple[str, str, str]],
    seed: int = 0,
    tick: Callable[[], None] = lambda: None,
) -> list[Review]:
    """Draw with each stack and read with the bare base model, which still knows everything; same noise for all.

    concepts: (concept, kind or "", anchor or "") of what is to be asked for. The rest is drawn from the word list.
    """
    words = WordList.load(host.words_file)
    known = [(c, kind or words.kind(c), anchor) for c, kind, anchor in concepts]
    asked = [(c, kind, anchor, scenes(words, c, kind, PICTURES, seed)) for c, kind, anchor in known]
    rest = words.without([c for c, _, _ in concepts])
    kept = [
        (o, s) for o in spread(rest.all_objects, KEPT, seed) for s in scenes(rest, o, "object", KEPT_PICTURES, seed)
    ]
    prompts = [s.prompt for _, _, _, rows in asked for s in rows] + [s.prompt for _, s in kept]
    found = []
    for stack in stacks:
        with host.session(stack):
            drawn = sample(host, host.encode(prompts), seed, STEPS, GUIDANCE, host.encode([""]), tick=tick)
        with host.session(Stack()):
            found.append(read(host, words, asked, kept, drawn, seed, tick))
    return found


@torch.no_grad()
def read(
    host: HostModel,
    words: WordList,
    asked: Sequence[tuple[str, str, str, list[Scene]]],
    kept: Sequence[tuple[str, Scene]],
    drawn: Tensor,
    seed: int,
    tick: Callable[[], None],
) -> Review:
    """One stack's pictures `[prompts, c, h, w]`, those of the forgotten concepts first, as shares 0..1."""
    shares, at = {}, 0
    for concept, kind, anchor, rows in asked:
        others = [[mapped(s, a, kind, words) for s in rows] for a in dict.fromkeys([anchor, REMOVED])]
        readings = [host.encode([s.prompt for s in sentences]) for sentences in (rows, *others)]
        hits = read_as(host, drawn[at : at + len(rows)], readings, seed, tick) == 0
        shares[concept], at = float(hits.float().mean()), at + len(rows)
    if not kept:
        return Review(shares, 1.0)
    names = list(dict.fromkeys(o for o, _ in kept))
    columns = [
        [place(s, names[(names.index(o) + k) % len(names)], "object").prompt for o, s in kept]
        for k in range(min(RIVALS + 1, len(names)))
    ]
    right = read_as(host, drawn[at:], [host.encode(c) for c in columns], seed, tick) == 0
    return Review(shares, float(right.float().mean()))


def told(stack: Stack) -> list[tuple[str, str, str]]:
    """(concept, kind, anchor) of all that a stack forgets; a merge's parts have no anchor of their own."""
    rows = []
    for entry in stack:
        info = entry.delta.info
        rows += [(info.concept, info.kind, info.anchor)] if not info.merged else [(c, "", "") for c in info.concepts]
    return rows
