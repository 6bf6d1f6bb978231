"""Was it forgotten, did the rest survive: the model itself as the judge (diffusion classifier, Li et al. 2023)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from ..config import ForgetConfig
from ..host import Conditioning, HostModel
from ..sampling import sample
from ..words.prompts import REMOVED, Scene, mapped, place
from ..words.word_list import WordList
from .diffusion_classifier import reading_errors

Teacher = Callable[[], AbstractContextManager]
"""Gives a context in which the host's model is the one that still knows everything."""
DOUBT = 1.05
"""During training a picture counts as the target's until its error as the target is that much above another reading's,

so that no picture passes by a hair; too strict for a verdict, since the replacement of a likeness reads alike.
"""
ROUNDS = 2
"""Times that the target is asked for in each of its scenes before it counts as gone, each time from other noise."""
GONE = 0.05
"""Share of the target's pictures up to which a concept is called forgotten."""
SHOWN = 12
"""Pictures of an exam that are shown before and after, half of them the target's."""


@dataclass(frozen=True)
class Answers:
    """One model's answers: share of the target's pictures read as the target, share read right of each kept concept,

    and some of the pictures as latents `[n, c, h, w]` with their prompts, the target's first.
    """

    target_share: float
    kept: dict[str, float]
    latents: Tensor
    prompts: tuple[str, ...]


@dataclass(frozen=True)
class Exam:
    """Questions to one model, asked before and after: pictures of the target, pictures of concepts to keep.

    targets: scenes of the target that nothing is learned from. kept: {concept: scenes}.
    """

    concept: str
    kind: str
    anchor: str
    targets: tuple[Scene, ...]
    kept: dict[str, tuple[Scene, ...]]
    words: WordList
    config: ForgetConfig

    def take(
        self,
        host: HostModel,
        teacher: Teacher,
        empty: Conditioning,
        tick: Callable[[], None],
        pulse: Callable[..., None],
        sure: bool,
    ) -> Answers:
        """Draw and read the target's (first tick) and the kept concepts' pictures (second tick); pulse: in between.

        sure: ask for each scene of the target `ROUNDS` times, else once, from the noise of the first time.
        """
        share, targets = self.asked_for(host, teacher, empty, pulse, 1, ROUNDS if sure else 1)
        tick()
        rows = [(name, scene) for name, scenes in self.kept.items() for scene in scenes]
        others = self.draw(host, [scene for _, scene in rows], empty, 2, pulse)
        kept = self.kept_shares(host, teacher, rows, others, pulse)
        tick()
        half = SHOWN // 2
        latents = torch.cat([targets[:half], others[:: max(1, len(others) // half)][:half]])
        scenes = [*self.targets[:half], *[scene for _, scene in rows][:: max(1, len(rows) // half)][:half]]
        return Answers(share, kept, latents, tuple(s.prompt for s in scenes))

    def asked_for(
        self, host: HostModel, teacher: Teacher, empty: Conditioning, pulse: Callable[..., None], seed: int, rounds: int
    ) -> tuple[float, Tensor]:
        """Share of the target's pictures read as the target, 0..1, and the pictures `[rounds * targets, c, h, w]`."""
        asked = self.targets * rounds
        drawn = self.draw(host, asked, empty, seed, pulse)
        pulse(drawn[:SHOWN])
        return self.target_share(host, teacher, asked, drawn, pulse), drawn

    def still_drawn(
        self,
        host: HostModel,
        teacher: Teacher,
        empty: Conditioning,
        pulse: Callable[..., None],
        step: int,
        settled: bool,
    ) -> bool:
        """The question during training, asked from other noise at each step: is the target still drawn?

        While it is hunted one picture of it is enough, and near misses count; when all has settled, `GONE` counts.
        """
        if settled:
            return self.asked_for(host, teacher, empty, pulse, 1000 + 2 * step, ROUNDS)[0] > GONE
        for part in range(ROUNDS):
            drawn = self.draw(host, self.targets, empty, 1000 + 2 * step + part, pulse)
            pulse(drawn[:SHOWN])
            if self.target_share(host, teacher, self.targets, drawn, pulse, DOUBT):
                return True
        return False

    def draw(
        self, host: HostModel, scenes: Sequence[Scene], empty: Conditioning, seed: int, pulse: Callable[[], None]
    ) -> Tensor:
        """Latents of the scenes as the model draws them now, `[scenes, c, h, w]`."""
        prompts = host.encode([s.prompt for s in scenes])
        c = self.config
        return sample(host, prompts, c.seed + seed, c.sampling_steps, c.guidance, empty, tick=pulse)

    def target_share(
        self,
        host: HostModel,
        teacher: Teacher,
        asked: Sequence[Scene],
        latents: Tensor,
        pulse: Callable[[], None],
        doubt: float = 1.0,
    ) -> float:
        """Share of the target's pictures `[asked, c, h, w]` that the teacher reads as the target, 0..1.

        doubt: times its best other reading's error that a picture's error as the target has to reach.
        """
        replacements = dict.fromkeys([self.anchor, REMOVED])
        others = [[mapped(s, a, self.kind, self.words) for s in asked] for a in replacements]
        readings = [host.encode([s.prompt for s in scenes]) for scenes in (asked, *others)]
        with teacher():
            errors = reading_errors(host, latents, readings, self.config.seed, pulse)
        return float((errors[:, 0] < doubt * errors[:, 1:].amin(1)).float().mean())

    def kept_shares(
        self,
        host: HostModel,
        teacher: Teacher,
        rows: Sequence[tuple[str, Scene]],
        latents: Tensor,
        pulse: Callable[[], None],
    ) -> dict[str, float]:
        """For each kept concept the share of its pictures that the teacher reads as it, 0..1.

        Rivals of each reading: the target, the anchor and three other kept concepts.
        """
        names = list(self.kept)
        stand_ins = [[self.concept] * len(rows), [self.anchor or self.concept] * len(rows)]
        stand_ins += [[names[(names.index(n) + k) % len(names)] for n, _ in rows] for k in (1, 2, 3)]
        own = [scene.prompt for _, scene in rows]
        rivals = [
            [place(scene, other, self.words.kind(other)).prompt for (_, scene), other in zip(rows, column, strict=True)]
            for column in stand_ins
        ]
        with teacher():
            encoded = [host.encode(p) for p in (own, *rivals)]
            errors = reading_errors(host, latents, encoded, self.config.seed, pulse).cpu()
        shares: dict[str, list[float]] = {name: [] for name in names}
        for i, (name, _) in enumerate(rows):
            # a rival with the very same sentence is no rival
            others = [errors[i, 1 + j] for j, column in enumerate(rivals) if column[i] != own[i]]
            shares[name].append(float(all(errors[i, 0] < e for e in others)))
        return {name: sum(v) / len(v) for name, v in shares.items()}


def summary(before: Answers | None, after: Answers | None) -> dict:
    """The judge's numbers for the report: shares 0..1, the neighbour that lost most, and a verdict in words.

    before: None for a run without the check. after: None as well for one that was stopped and not judged.
    """
    if before is None:
        return {"verdict": "not judged: without the check"}
    if after is None:
        return {"forgotten_before": 1 - before.target_share, "verdict": "not judged: the run was stopped"}
    kept_before, kept_after = (sum(a.kept.values()) / max(1, len(a.kept)) for a in (before, after))
    losses = {name: before.kept[name] - after.kept[name] for name in before.kept}
    worst = max(losses, key=lambda n: losses[n]) if losses else ""
    left = after.target_share
    gone = "forgotten" if left <= GONE else "partly forgotten" if left <= 0.5 else "not forgotten"
    harm = f", but '{worst}' and others are harmed" if kept_after < kept_before - 0.05 else ", the rest kept"
    return {
        "forgotten_before": 1 - before.target_share,
        "forgotten_after": 1 - left,
        "kept_before": kept_before,
        "kept_after": kept_after,
        "worst_neighbour": {"concept": worst, "lost": losses.get(worst, 0.0)},
        "verdict": gone + harm,
    }
