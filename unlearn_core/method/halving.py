"""Score distances by successive halving: all candidates at a few points, only those in the lead at more.

Karnin, Koren, Somekh, "Almost Optimal Exploration in Multi-Armed Bandits", ICML 2013. Candidates share all noise, so
that differences between them are known from few points.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import TrainingFailed, not_finite
from ..host import Conditioning, HostModel
from ..recipe import Recipe
from ..sampling import Probe, Sampler, probe_levels
from ..saved_work import number_of
from .run import Run
from .score_distance import score_distances

LEADERS = 4
"""Most candidates that are compared at more points."""
CLOSER = 3
"""Pictures of the target on which they are."""


@dataclass
class TargetLatents:
    """The model's own pictures of some prompts of the target, drawn as far as they are asked for."""

    run: Run
    asked: Conditioning
    _drawn: dict[tuple[int, int], Tensor] = field(default_factory=dict)

    def rows(self, first: int, end: int, tick: Callable[[], None] | None = None) -> Tensor:
        """Pictures first..end, `[end - first, c, h, w]`. Raises `TrainingFailed` for numbers that are not finite."""
        end = min(end, len(self.asked))
        if (first, end) not in self._drawn:
            config, host = self.run.request.config, self.run.host
            sampler = Sampler(host, config.sampling_steps, 1.0, tick or self.run.job.pulse)
            drawn = sampler.draw(self.asked[list(range(first, end))], config.seed, first=first)
            if not torch.isfinite(drawn).all():
                raise TrainingFailed(not_finite("draws"))
            self._drawn[first, end] = drawn
        return self._drawn[first, end]


def distances_by_halving(
    host: HostModel,
    latents: Callable[[int, int], Tensor],
    encoded: Sequence[Conditioning],
    recipe: Recipe,
    way: tuple[int, Callable[[], None]],
) -> Tensor:
    """Score distances of candidates to the target, `[candidates]`, those in the lead measured more closely.

    latents: gives pictures of the target by their numbers, `[m, c, h, w]`. encoded: a row each of the target's prompts,
    then of the candidates'. way: the seed, and what is called after each candidate.
    """
    levels, (seed, tick), count = recipe.anchor_levels, way, recipe.halving_pictures
    # the lowest level differs least from picture to picture, around the high one most is decided
    few, many = ([k * levels // 8 for k in numbers] for numbers in ((0, 6), (0, 4, 6)))
    seeds = [number_of("race", seed, stage) for stage in range(2)]
    first = latents(0, count)
    found = at_points(host, first, [c[: len(first)] for c in encoded], (few, levels), (seeds[0], tick))
    order = found.argsort().tolist()
    leaders = [i for i in order[:LEADERS] if not found[i] > recipe.halving_open * found[order[0]]]
    if len(leaders) > 1 and len(encoded[0]) > count:
        more = latents(count, count + CLOSER)
        chosen = [encoded[0], *(encoded[1 + i] for i in leaders)]
        rows = [c[count : count + len(more)] for c in chosen]
        closer = at_points(host, more, rows, (many, levels), (seeds[1], tick))
        points = len(first) * len(few), len(more) * len(many)
        mean = (found[leaders] * points[0] + closer * points[1]) / sum(points)
        # in the scale of the others, so that they stay ahead of all that were not compared again
        found[leaders] = mean * found[leaders].max() / mean.max().clamp(min=torch.finfo(mean.dtype).tiny)
    return found


def at_points(
    host: HostModel,
    latents: Tensor,
    encoded: Sequence[Conditioning],
    levels: tuple[Sequence[int], int],
    way: tuple[int, Callable[[], None]],
) -> Tensor:
    """Mean score distances at some noise levels, `[candidates]` on the CPU.

    latents: `[m, c, h, w]`, one row each of `encoded`. levels: (their numbers, how many there are).
    way: see `distances_by_halving`.
    """
    sigmas = probe_levels(host, levels[1])[torch.tensor(levels[0], device=host.sigmas.device)]
    probe = Probe.make(host, latents, sigmas, way[0])
    return score_distances(host, probe, encoded[0], encoded[1:], way[1]).mean(1).float().cpu()
