"""Pictures of prompts that do not name the target: how they are asked for, and which of them show it."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..evaluate.unasked import Sight
from ..sampling import Drawing
from ..words.prompts import Scene, fill
from ..words.word_list import WordList

OPEN = 0.2
"""Part of the rows that are asked for by less than their own prompt: by the thing, the style, or nothing."""
SELDOM, SELDOM_LEARNED = 0.005, 0.1
"""What is added to the square of the share of a style's pictures that show it, by which styles are drawn again, and to
a picture's distance from its style's share, by which it is learned from."""
SEEN = 0.01
"""Margin (see `Sight`) from which it is seen in a picture: just above 0 lie many that show something alike."""
LEADING = 0.5
"""Part of the largest share of a style from which another style shows it too."""


def with_concept(prompt: str, concept: str, kind: str) -> str:
    """A prompt that asks for the concept as well."""
    return f"{prompt}, {concept}" if kind == "style" else f"{prompt}{fill(' with {an o}', concept, '')}"


def broad_scenes(words: WordList, count: int, seed: int, shares: dict[str, float]) -> list[Scene]:
    """`count` scenes of any thing in any style of the list; shares: of styles that are to come more often."""
    rng = random.Random(f"{seed}/broad")
    styles = list(words.styles) or [""]
    templates = words.templates if words.styles else words.object_templates
    chosen = rng.choices(styles, weights=[shares.get(s, 0.0) ** 2 + SELDOM for s in styles], k=count)
    things = words.all_objects or ("thing",)
    return [Scene(rng.choice(templates), rng.choice(things), s, rng.choice(words.suffixes)) for s in chosen]


def part_of(scene: Scene, words: WordList, rng: random.Random) -> str:
    """What a picture of the scene is asked for by: as a rule its own prompt, at times less, or nothing at all."""
    if rng.random() >= OPEN:
        return scene.prompt
    if scene.style and rng.random() < 0.5:
        return fill(rng.choice(words.style_templates), "", scene.style)
    return rng.choice(["", fill(rng.choice(words.object_templates), scene.obj, "")])


@dataclass(frozen=True)
class Broad:
    """Pictures of prompts that do not name the target, and which show it, `shown` `[b]`.

    sight: how they were read. without: the latents `[b, c, h, w]` of the same pictures without it, as far as they are
    found, else as they are. again: so many of them, the first, were drawn because an earlier model has shown it there.
    """

    scenes: list[Scene]
    drawn: Drawing
    sight: Sight
    shown: Tensor
    without: Tensor
    again: int = 0

    @classmethod
    def make(cls, scenes: list[Scene], drawn: Drawing, sight: Sight, again: int = 0) -> Broad:
        """As they were read."""
        return cls(scenes, drawn, sight, sight.margins > SEEN, drawn.latents, again)

    def shares(self) -> dict[str, float]:
        """{style: part of its pictures that show it}, 0..1."""
        styles = dict.fromkeys(s.style for s in self.scenes)
        return {t: float(self.shown[self.among([t])].float().mean()) for t in styles}

    def leading(self) -> frozenset[str]:
        """The styles that show it: the one that does most often, and those that do so half as often.

        A picture in which it is seen may show something alike, as a red fruit: that happens in all styles, and seldom.
        """
        shares = self.shares()
        return frozenset(style for style, share in shares.items() if share >= LEADING * max(shares.values()))

    def only(self, styles: frozenset[str]) -> Broad:
        """The same, where it counts as shown in some styles alone."""
        return replace(self, shown=self.shown & self.among(styles))

    def among(self, styles: Collection[str]) -> Tensor:
        """Whether each is in one of the styles, `[b]`."""
        return torch.tensor([scene.style in styles for scene in self.scenes])

    def seen(self) -> list[tuple[Scene, Tensor]]:
        """Scenes and noises of the pictures that show it."""
        return [(scene, self.drawn.start[i]) for i, scene in enumerate(self.scenes) if self.shown[i]]

    def share(self, styles: Collection[str]) -> float:
        """Part of the pictures in these styles that show it, 0..1, without those that were drawn again."""
        new = self.shown[self.again :][self.among(styles)[self.again :]]
        return float(new.float().mean()) if len(new) else 0.0

    def interest(self) -> Tensor:
        """How often each picture is learned from, `[b]`: most where it is shown, least in styles that never show it."""
        shares = self.shares()
        return (torch.tensor([shares[s.style] for s in self.scenes]) - self.shown.float()).abs() + SELDOM_LEARNED


def joined(parts: Sequence[Broad]) -> Broad:
    """All of them."""

    def every(of: Callable[[Broad], Tensor]) -> Tensor:
        return torch.cat([of(p) for p in parts])

    drawn = Drawing(every(lambda p: p.drawn.start), every(lambda p: p.drawn.latents))
    sight = Sight(every(lambda p: p.sight.margins), every(lambda p: p.sight.read), every(lambda p: p.sight.places))
    scenes = [scene for p in parts for scene in p.scenes]
    return Broad(scenes, drawn, sight, every(lambda p: p.shown), every(lambda p: p.without))
