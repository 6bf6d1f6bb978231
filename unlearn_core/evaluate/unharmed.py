"""Pictures of what is to be preserved: one of each concept, drawn before and after from the same noise.

More of them are drawn only where one was lost or is not clear. What has hardly changed is not read again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from math import inf, nan

import torch
from torch import Tensor

from ..recipe import Recipe
from ..sampling import Sampler, noise, schedule
from ..saved_work import number_of, saved_tensor
from ..words.prompts import Scene, place
from ..words.word_list import WordList
from .drawn import Drawn
from .evaluator import Questions, Reader, Teacher, broken_pictures
from .reading import HowToRead
from .remembered import Remembered

RIVALS = 3
"""Other preserved concepts that a picture is compared with, beside the target and the anchor."""


@dataclass
class Row:
    """A picture of a concept: as the model drew it before the request `[c, h, w]`, and whether it was read right."""

    concept: str
    scene: Scene
    latents: Tensor
    right: bool


@dataclass(frozen=True)
class RememberingSampler:
    """Draws pictures that depend on nothing but their prompt and the request's seed, and remembers those of before.

    unchanged: gives a context in which the model is the one before the request.
    """

    sampler: Sampler
    seed: int
    unchanged: Callable[[], AbstractContextManager[None]]
    remembered: Remembered

    def draw(self, scenes: Sequence[Scene], before: bool) -> Tensor:
        """Latents of the scenes, `[scenes, c, h, w]`, by the model before the request or as it is."""
        host = self.sampler.host
        encoded, sampler = host.encode([s.prompt for s in scenes]), self.sampler.ready()
        sigmas = schedule(host, sampler.steps)
        seeds = [number_of("preserved", self.seed, s.prompt) for s in scenes]
        start = torch.cat([noise((1, *host.latent_shape), seed, host.device) for seed in seeds])
        on = (sigmas, *sampler.unnamed(), sampler.guidance)

        def along(rows: list[int]) -> Tensor:
            return sampler.all_along(encoded[rows], start[rows], sigmas)

        def made() -> Tensor:
            if not before:
                return along(list(range(len(scenes))))
            keys = [("drawn", seed, *encoded[[i]].parts(), *on) for i, seed in enumerate(seeds)]
            with self.unchanged():
                return self.remembered.rows(keys, along, host.latent_shape)

        return saved_tensor(host, "preserved", (before, start, *encoded.parts(), *on), made)


@dataclass
class Unharmed:
    """Looks at what is to be preserved, before and after.

    rows: {concept: its pictures so far}. broken: how many of those that were drawn last are no numbers.
    """

    questions: Questions
    reader: Reader
    teacher: Teacher
    recipe: Recipe
    sampler: RememberingSampler
    rows: dict[str, list[Row]] = field(default_factory=dict)
    broken: int = 0
    _last: Tensor = field(default_factory=lambda: torch.zeros(0))

    @property
    def first(self) -> list[Row]:
        """One picture of each concept, one that was read right if there is any."""
        return [next((r for r in rows if r.right), rows[0]) for rows in self.rows.values()]

    def shown(self, count: int) -> tuple[list[Tensor], list[Scene]]:
        """(some of the pictures as they were drawn last, `[1, c, h, w]` each, their scenes), for whoever looks."""
        first = self.first
        some = [i * len(first) // min(len(first), count) for i in range(min(len(first), count))]
        return [self._last[[i]] for i in some], [first[i].scene for i in some]

    def before(self) -> dict[str, float]:
        """For each concept the part of its pictures that are read as it, 0..1: of one that is known the first few."""
        self.rows = {name: [] for name in self.questions.preserved}
        for number in range(self.recipe.preserved_pictures):
            open_ones = [name for name, rows in self.rows.items() if not any(r.right for r in rows)]
            self.more(open_ones, number)
        first = self.first
        self._last = torch.stack([r.latents for r in first]) if first else torch.zeros(0)
        drawn = [r.latents for rows in self.rows.values() for r in rows]
        self.broken = broken_pictures(torch.stack(drawn)) if drawn else 0
        return {name: share([r.right for r in rows]) for name, rows in self.rows.items()}

    def after(self) -> dict[str, float]:
        """The same of the model as it is now: of what was read right before, the part that still is, times that part.

        Every picture counts that was read right before; others of a concept are drawn only where one is not clear.
        """
        before = {name: share([r.right for r in rows]) for name, rows in self.rows.items()}
        first = self.first
        self._last, still, clear = self.kept(first)
        self.broken = broken_pictures(self._last) if first else 0
        counts = {r.concept: [k] for r, k in zip(first, still, strict=True) if r.right}
        if not clear:
            others = self.others(list(counts))
            drawn, still, _ = self.kept(others)
            self.broken += broken_pictures(drawn) if others else 0
            for row, k in zip(others, still, strict=True):
                counts[row.concept].append(k)
        return {name: before[name] * share(counts.get(name, [])) for name in self.rows}

    def others(self, known: Sequence[str]) -> list[Row]:
        """All other pictures of some concepts that were read right before, drawn where they have not been."""
        seen = {id(r) for r in self.first}
        for number in range(self.recipe.preserved_pictures):
            self.more([n for n in known if len(self.rows[n]) == number], number)
        return [r for name in known for r in self.rows[name] if r.right and id(r) not in seen]

    def more(self, concepts: Sequence[str], number: int) -> None:
        """Look at one more picture of each of these concepts, drawn by the model before the request."""
        scenes = self.questions.preserved
        asked = [(name, scenes[name][number]) for name in concepts if len(scenes[name]) > number]
        if asked:
            drawn = self.sampler.draw([scene for _, scene in asked], True)
            found = self.margins(asked, drawn, False)
            for (name, scene), latents, m in zip(asked, drawn, found, strict=True):
                self.rows[name].append(Row(name, scene, latents, m > 0))

    def kept(self, rows: Sequence[Row]) -> tuple[Tensor, list[bool], bool]:
        """(pictures of these rows now, whether each is still read right, whether all are clearly)."""
        if not rows:
            return torch.zeros(0), [], True
        drawn, old = self.sampler.draw([r.scene for r in rows], False), torch.stack([r.latents for r in rows])
        way = (drawn - old).pow(2).flatten(1).mean(1) / old.pow(2).flatten(1).mean(1)
        # so written a picture that is no number has changed
        moved = [i for i, w in enumerate(way.tolist()) if rows[i].right and not w <= self.recipe.same_picture]
        asked = [(rows[i].concept, rows[i].scene) for i in moved]
        found = self.margins(asked, drawn[moved], True) if moved else []
        still = [row.right for row in rows]
        for i, m in zip(moved, found, strict=True):
            still[i] = m > 0
        return drawn, still, all(m >= self.recipe.kept_margin for m in found)

    def margins(self, asked: Sequence[tuple[str, Scene]], latents: Tensor, changed: bool) -> list[float]:
        """How clearly each picture `[b, c, h, w]` is read as its concept (see `reading.margins`).

        changed: whether the model was. Rivals: the target, the anchor, and the next of the preserved concepts.
        """
        # one that is the picture's own prompt is no rival, and one that stands there twice is read once
        rows = [list(dict.fromkeys(row)) for row in prompts_of(self.questions, self.reader.words, asked)]
        # without a rival a picture is right, unless it is no picture
        found = [inf if sound else nan for sound in torch.isfinite(latents).flatten(1).all(1).tolist()]
        with self.teacher():
            for count in sorted({len(row) for row in rows} - {1}):
                numbers = [i for i, row in enumerate(rows) if len(row) == count]
                encoded = [self.reader.host.encode([rows[i][k] for i in numbers]) for k in range(count)]
                seeds = [number_of("read", self.reader.seed, rows[i][0]) for i in numbers]
                some = Drawn(self.reader, latents[numbers], encoded, seeds).margins(HowToRead.by(self.recipe, changed))
                for i, m in zip(numbers, some, strict=True):
                    found[i] = m
        return found


def prompts_of(questions: Questions, words: WordList, asked: Sequence[tuple[str, Scene]]) -> list[list[str]]:
    """What each picture of a preserved concept may be read as: its own prompt, and those of its rivals."""
    names = list(questions.preserved)
    stand_ins = [questions.concept, questions.anchor or questions.concept]
    prompts = []
    for name, scene in asked:
        others = [*stand_ins, *(names[(names.index(name) + k) % len(names)] for k in range(1, RIVALS + 1))]
        prompts.append([scene.prompt, *(place(scene, o, words.kind(o)).prompt for o in others)])
    return prompts


def share(right: Sequence[bool]) -> float:
    """Part of them, 0 of none."""
    return sum(right) / len(right) if right else 0.0
