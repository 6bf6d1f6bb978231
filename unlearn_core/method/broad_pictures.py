"""Pictures of prompts that do not name the target: how they are asked for, and which of them show it."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from ..host import Conditioning
from ..words.prompts import Scene, fill
from ..words.word_list import WordList

OPEN = 0.2
"""Part of the rows that are asked for by less than their own prompt: by the thing, the style, or nothing."""
SELDOM, SELDOM_LEARNED = 0.005, 0.1
"""What is added to the square of the share of a style's pictures that show it, by which styles are drawn again, and to
a picture's distance from its style's share, by which it is learned from."""
Prompts = tuple[Conditioning, Conditioning]
"""Of some pictures: their own, and the same with the concept."""


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
    """Pictures of prompts that do not name the target: scenes, latents `[b, c, h, w]`, which show it `[b]`, where.

    start: the noise that they were drawn from. places: as of `Sight`. without: the same pictures without it, as far as
    that was found, else as they are. again: so many of them, the first, were drawn because an earlier model has shown
    it there.
    """

    scenes: list[Scene]
    start: Tensor
    latents: Tensor
    shown: Tensor
    places: Tensor
    without: Tensor
    again: int = 0

    def shares(self) -> dict[str, float]:
        """{style: part of its pictures that show it}, 0..1."""
        styles = dict.fromkeys(s.style for s in self.scenes)
        return {t: float(self.shown[[s.style == t for s in self.scenes]].float().mean()) for t in styles}

    def seen(self) -> list[tuple[Scene, Tensor]]:
        """Scenes and noises of the pictures that show it."""
        return [(scene, self.start[i]) for i, scene in enumerate(self.scenes) if self.shown[i]]

    def share(self) -> float:
        """Part of the pictures that show it, 0..1, without those that were drawn again."""
        return float(self.shown[self.again :].float().mean())

    def interest(self) -> Tensor:
        """How often each picture is learned from, `[b]`: most where it is shown, least in styles that never show it."""
        shares = self.shares()
        return (torch.tensor([shares[s.style] for s in self.scenes]) - self.shown.float()).abs() + SELDOM_LEARNED


def joined(parts: list[Broad]) -> Broad:
    """All of them."""
    scenes = [s for p in parts for s in p.scenes]
    names = "start", "latents", "shown", "places", "without"
    start, latents, shown, places, without = (torch.cat([getattr(p, name) for p in parts]) for name in names)
    return Broad(scenes, start, latents, shown, places, without)
