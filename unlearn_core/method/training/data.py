"""What a training learns from, all drawn once before it begins: banks of latents, encoded prompts, noise levels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...host import Conditioning, HostModel
from ...sampling import LatentBank, noise
from ...words.prompts import spread
from ..anchor import Anchor
from ..prompt_pairs import PromptPairs
from ..run import Run
from ..score_distance import at_all_levels, importance
from .replay import Replay


@dataclass(frozen=True)
class Batch:
    """One step's input: forget rows first, replay rows after them.

    x `[2b, c, h, w]` noised latents, sigma `[2b]`, student and teacher prompts: they differ in the rows `changed`, of
    what is to go and of what has gone.
    """

    x: Tensor
    sigma: Tensor
    student: Conditioning
    teacher: Conditioning
    changed: tuple[int, ...]

    def parts(self, pairs: int) -> Iterator[Batch]:
        """The batch in pieces of at most `pairs` forget rows with their replay rows."""
        size = len(self.x) // 2
        if pairs >= size:
            yield self
            return
        for start in range(0, size, pairs):
            rows = [*range(start, min(start + pairs, size))]
            rows += [size + r for r in rows]
            changed = tuple(i for i, r in enumerate(rows) if r in self.changed)
            yield Batch(self.x[rows], self.sigma[rows], self.student[rows], self.teacher[rows], changed)


@dataclass(frozen=True)
class TrainingData:
    """Forget and replay banks with the teacher's prompts for their rows, the chances of noise levels and replay rows.

    erased: rows of the replay bank, the last ones, that show what has gone. gap: the distance that the forget prompts
    have to go, E || d_T(p_f) - d_T(m(p_f)) ||^2 at these noise levels.
    """

    forget: LatentBank
    mapped: Conditioning
    replay: LatentBank
    replay_weights: Tensor
    taught: Conditioning
    level_weights: Tensor
    erased: int
    gap: float

    @classmethod
    def draw(cls, run: Run, anchor: Anchor, pairs: PromptPairs) -> TrainingData:
        """Draw what has to stay by the base model, what has to go or has gone by the model as it is now.

        Inherited prompts draw today's target, so they are forget prompts too.
        """
        host, config, count = run.host, run.request.config, run.request.recipe.training_prompts
        replay = Replay.make(run.request, anchor.neighbours, pairs.erased)
        target, inherited = (spread(p, count, config.seed) for p in (pairs.target, pairs.inherited))

        def drawn(prompts: Sequence[str], seed: int) -> LatentBank:
            rows = host.encode(prompts)
            many = config.latents_per_prompt
            return LatentBank.draw(host, rows, many, config.seed + seed, config.sampling_steps, run.job.tick)

        forget = drawn([p for p, _ in target], 0)
        if inherited:
            forget = forget + drawn([p for p, _ in inherited], 11)
        with run.base.shown():
            kept = drawn(replay.prompts, 12)
        if replay.erased:
            kept = kept + drawn([p for p, _ in replay.erased], 13)
        taught = host.encode([*replay.prompts, *(m for _, m in replay.erased)])
        mapped = host.encode([m for _, m in [*target, *inherited]])
        # without the check there is no training, and with it they are measured
        assert anchor.distances is not None
        distances = at_all_levels(anchor.distances(), len(host.sigmas))
        levels = importance(distances)
        gap = float((levels * distances).sum())
        return cls(forget, mapped, kept, replay.weights, taught, levels, len(replay.erased), gap)

    def batch(self, host: HostModel, size: int, generator: torch.Generator) -> Batch:
        """`size` forget rows at the levels where target and anchor differ, `size` replay rows at all levels."""
        rows = torch.randint(0, len(self.forget), (size,), generator=generator)
        kept = torch.multinomial(self.replay_weights, size, replacement=True, generator=generator)
        levels = torch.cat(
            [
                torch.multinomial(self.level_weights, size, replacement=True, generator=generator),
                torch.randint(0, len(host.sigmas), (size,), generator=generator),
            ]
        )
        sigma = host.sigmas[levels.to(host.sigmas.device)]
        latents = torch.cat([self.forget.pick(rows, generator), self.replay.pick(kept, generator)])
        seed = int(torch.randint(0, 2**31, (1,), generator=generator))
        x = host.noised(latents, sigma, noise(latents.shape, seed, latents.device))
        gone = [size + i for i, row in enumerate(kept.tolist()) if row >= len(self.replay) - self.erased]
        return Batch(
            x,
            sigma,
            Conditioning.cat([self.forget.conditioning[rows], self.replay.conditioning[kept]]),
            Conditioning.cat([self.mapped[rows], self.taught[kept]]),
            (*range(size), *gone),
        )
