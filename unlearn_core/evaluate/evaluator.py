"""Was it forgotten, did the rest stay: the questions, asked before and after."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..errors import TrainingFailed, not_finite
from ..host import HostModel
from ..progress import Tracker
from ..recipe import Recipe
from ..sampling import Sampler
from ..words.prompts import REMOVED, Scene, mapped, place
from ..words.word_list import WordList
from .diffusion_classifier import reading_errors
from .outside import NOTHING_OUTSIDE, Outside

Teacher = Callable[[], AbstractContextManager[None]]
"""Gives a context in which the host's model is the base model, which still knows everything."""


@dataclass(frozen=True)
class Answers:
    """One model's answers.

    target_share: part of the target's pictures that are read as the target. preserved: {concept: part of its pictures
    that are read right}. latents: some of the pictures `[n, c, h, w]`, the target's first, with their prompts.
    not_finite: pictures with numbers that are not finite. outside: {prompt that names nothing listed: how much the
    model answers otherwise to it, as a part of what it does to the target's}; only of a model that was changed.
    """

    target_share: float
    preserved: dict[str, float]
    latents: Tensor
    prompts: tuple[str, ...]
    not_finite: int = 0
    outside: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Reader:
    """Reads pictures with the model that it is given at the time.

    levels: parts of the trained noise range at which pictures are read. pulse: called between two passes.
    """

    host: HostModel
    words: WordList
    levels: Sequence[float]
    seed: int
    pulse: Callable[[], None]

    def target_errors(self, scenes: Sequence[Scene], kind: str, anchor: str, latents: Tensor) -> Tensor:
        """Errors of pictures `[b, c, h, w]` of the scenes as the target, with the anchor in its place, and without it.

        `[b, readings]`, the target's first.
        """
        others = [[mapped(s, a, kind, self.words) for s in scenes] for a in dict.fromkeys([anchor, REMOVED])]
        readings = [self.host.encode([s.prompt for s in row]) for row in (scenes, *others)]
        return reading_errors(self.host, latents, readings, self.levels, self.seed, self.pulse)

    def shares_right(
        self, rows: Sequence[tuple[str, Scene]], rivals: Sequence[Sequence[str]], latents: Tensor
    ) -> dict[str, float]:
        """For each concept the part of its pictures that are read as it and not as one of the rivals, 0..1.

        rows: (concept, scene) of each picture `[b, c, h, w]`. rivals: columns of other concepts, one a row each.
        """
        own = [scene.prompt for _, scene in rows]
        columns = [
            [place(scene, other, self.words.kind(other)).prompt for (_, scene), other in zip(rows, column, strict=True)]
            for column in rivals
        ]
        encoded = [self.host.encode(p) for p in (own, *columns)]
        errors = reading_errors(self.host, latents, encoded, self.levels, self.seed, self.pulse).cpu()
        shares: dict[str, list[float]] = {name: [] for name, _ in rows}
        for i, (name, _) in enumerate(rows):
            # A rival with the very same prompt is no rival.
            others = [errors[i, 1 + j] for j, column in enumerate(columns) if column[i] != own[i]]
            shares[name].append(float(all(errors[i, 0] < e for e in others)))
        return {name: sum(v) / len(v) for name, v in shares.items()}


def broken_pictures(latents: Tensor) -> int:
    """How many of the pictures `[b, c, h, w]` have numbers that are not finite."""
    return int((~torch.isfinite(latents).flatten(1).all(1)).sum())


def neighbours_in_list(rows: Sequence[tuple[str, Scene]], count: int) -> list[list[str]]:
    """Columns of rivals: for each row the next `count` concepts of the same list."""
    names = list(dict.fromkeys(name for name, _ in rows))
    return [[names[(names.index(n) + k) % len(names)] for n, _ in rows] for k in range(1, count + 1)]


@dataclass(frozen=True)
class Questions:
    """What is asked: pictures of the target, and pictures of concepts to preserve.

    targets: scenes of the target that nothing is learned from. preserved: {concept: scenes}.
    """

    concept: str
    kind: str
    anchor: str
    targets: tuple[Scene, ...]
    preserved: Mapping[str, tuple[Scene, ...]]


@dataclass(frozen=True)
class Evaluator:
    """Asks the questions of the model as it is, and reads the pictures with the base model.

    sampler: how pictures are drawn. seed: of the request; each look has noise of its own. job: hears each look.
    outside: what else is looked at, beside what has a name on a list.
    """

    questions: Questions
    sampler: Sampler
    reader: Reader
    teacher: Teacher
    recipe: Recipe
    job: Tracker
    outside: Outside = NOTHING_OUTSIDE

    def before(self) -> Answers | None:
        """The model before the request: each prompt of the target once. Raises `TrainingFailed` where it is broken."""
        self.job.start("before", 2, "checking the model as it is")
        answers = self.look(rounds=1)
        if answers.not_finite:
            raise TrainingFailed(not_finite("draws", "in the check's pictures"))
        return answers

    def after(self) -> Answers | None:
        """The model after it: each prompt of the target `Recipe.rounds` times."""
        self.job.start("after", 2, "checking the result")
        answers = self.look(rounds=self.recipe.rounds)
        return replace(answers, outside=self.outside.changes(self.sampler.host, self.reader.seed, self.job.pulse))

    def look(self, rounds: int) -> Answers:
        """Draw and read the target's pictures (first tick) and the preserved concepts' (second tick)."""
        share, targets = self.asked_for(1, rounds)
        self.job.tick()
        rows = [(name, scene) for name, scenes in self.questions.preserved.items() for scene in scenes]
        others = self.draw([scene for _, scene in rows], 2) if rows else targets[:0]
        shares = self.preserved_shares(rows, others) if rows else {}
        self.job.tick()
        half = self.recipe.shown // 2
        apart = max(1, len(rows) // half)
        latents = torch.cat([targets[:half], others[::apart][:half]])
        scenes = [*self.questions.targets[:half], *[scene for _, scene in rows][::apart][:half]]
        broken = sum(broken_pictures(drawn) for drawn in (targets, others))
        return Answers(share, shares, latents, tuple(s.prompt for s in scenes), broken)

    def still_generated(self, number: int, settled: bool) -> bool:
        """The question while the method is at work, asked with other noise at each number: is the target still there?

        While it is searched for, one picture of it is enough, and near misses count; when all has settled, the share
        counts that the verdict allows.
        """
        if settled:
            return self.asked_for(1000 + 2 * number, self.recipe.rounds)[0] > self.recipe.forgotten_share
        for part in range(self.recipe.rounds):
            drawn = self.draw(self.questions.targets, 1000 + 2 * number + part)
            self.job.pulse(drawn[: self.recipe.shown])
            if self.target_share(self.questions.targets, drawn, self.recipe.doubt):
                return True
        return False

    def gone(self, answers: Answers) -> bool:
        """Whether so little of the target is left that it is called forgotten."""
        return answers.target_share <= self.recipe.forgotten_share

    def asked_for(self, seed: int, rounds: int) -> tuple[float, Tensor]:
        """Share of the target's pictures read as the target, 0..1, and the pictures `[rounds * targets, c, h, w]`."""
        asked = list(self.questions.targets) * rounds
        drawn = self.draw(asked, seed)
        self.job.pulse(drawn[: self.recipe.shown])
        return self.target_share(asked, drawn), drawn

    def draw(self, scenes: Sequence[Scene], seed: int) -> Tensor:
        """Latents of the scenes as the model draws them now, `[scenes, c, h, w]`."""
        prompts = self.reader.host.encode([s.prompt for s in scenes])
        return self.sampler.draw(prompts, self.reader.seed + seed)

    def target_share(self, scenes: Sequence[Scene], latents: Tensor, doubt: float = 1.0) -> float:
        """Share of the target's pictures `[scenes, c, h, w]` that the base model reads as the target, 0..1.

        doubt: how many times the best other reading's error a picture's error as the target has to reach.
        """
        with self.teacher():
            errors = self.reader.target_errors(scenes, self.questions.kind, self.questions.anchor, latents)
        # so written a picture or an error that is no number counts as the target's still, never as gone
        return float((~(errors[:, 0] >= doubt * errors[:, 1:].amin(1))).float().mean())

    def preserved_shares(self, rows: Sequence[tuple[str, Scene]], latents: Tensor) -> dict[str, float]:
        """For each preserved concept the part of its pictures that the base model reads as it, 0..1.

        Rivals of each reading: the target, the anchor and three other preserved concepts.
        """
        stand_ins = [self.questions.concept, self.questions.anchor or self.questions.concept]
        rivals = [*([name] * len(rows) for name in stand_ins), *neighbours_in_list(rows, 3)]
        with self.teacher():
            return self.reader.shares_right(rows, rivals, latents)


class NoCheck:
    """In place of an evaluator where the check is off: nothing is drawn or read."""

    near: float | None = None

    def before(self) -> None:
        """No answers."""

    def after(self) -> None:
        """No answers."""

    def still_generated(self, number: int, settled: bool) -> bool:
        """Nothing was checked, so nothing is tried again."""
        return False
