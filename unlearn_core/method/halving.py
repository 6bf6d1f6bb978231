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
from .plan import CLOSER
from .run import Run
from .score_distance import score_distances

LEADERS = 4
"""Most candidates that are compared at more points."""


@dataclass
class TargetLatents:
    """The model's own pictures of some prompts of the target: those that are asked for first, then all others."""

    run: Run
    asked: Conditioning
    _drawn: list[Tensor] = field(default_factory=list)

    def first(self, tick: Callable[[], None]) -> None:
        """Draw as many as are looked at in most runs. tick: called after each step."""
        recipe = self.run.request.recipe
        self._draw(recipe.halving_pictures + CLOSER if recipe.group else len(self.asked), tick)

    def rows(self, first: int, end: int) -> Tensor:
        """Pictures first..end, `[end - first, c, h, w]`. Raises `TrainingFailed` for numbers that are not finite."""
        self._draw(end, self.run.job.pulse)
        return torch.cat(self._drawn)[first:end]

    def _draw(self, end: int, tick: Callable[[], None]) -> None:
        """So that the first `end` are there."""
        first, end = sum(map(len, self._drawn)), min(end, len(self.asked))
        if first < end:
            sampler = Sampler(self.run.host, self.run.request.config.sampling_steps, 1.0, tick)
            drawn = sampler.draw(self.asked[list(range(first, end))], self.run.request.config.seed, first=first)
            if not torch.isfinite(drawn).all():
                raise TrainingFailed(not_finite("draws"))
            self._drawn.append(drawn)


def distances_by_halving(
    host: HostModel,
    latents: Callable[[int, int], Tensor],
    prompts: Sequence[Sequence[str]],
    recipe: Recipe,
    way: tuple[int, Callable[[], None]],
) -> Tensor:
    """Score distances of candidates to the target, `[candidates]`, those in the lead measured more closely.

    latents: gives pictures of the target by their numbers, `[m, c, h, w]`. prompts: one a picture, the target's first,
    then each candidate's. way: the seed, and what is called after each candidate.
    """
    levels, (seed, tick), count = recipe.anchor_levels, way, recipe.halving_pictures
    # the lowest level differs least from picture to picture, around the high one most is decided
    few, many = ([k * levels // 8 for k in numbers] for numbers in ((0, 6), (0, 4, 6)))
    seeds = [number_of("race", seed, stage) for stage in range(2)]
    first = latents(0, count)
    rows = encoded(host, [p[: len(first)] for p in prompts])
    found = at_points(host, first, rows, (few, levels), (seeds[0], tick))
    order = found.argsort().tolist()
    leaders = [i for i in order[:LEADERS] if not found[i] > recipe.halving_open * found[order[0]]]
    if len(leaders) > 1 and len(prompts[0]) > count:
        more = latents(count, count + CLOSER)
        chosen = [prompts[0], *(prompts[1 + i] for i in leaders)]
        rows = encoded(host, [p[count : count + len(more)] for p in chosen])
        closer = at_points(host, more, rows, (many, levels), (seeds[1], tick))
        points = len(first) * len(few), len(more) * len(many)
        mean = (found[leaders] * points[0] + closer * points[1]) / sum(points)
        # in the scale of the others, so that they stay ahead of all that were not compared again
        found[leaders] = mean * found[leaders].max() / mean.max().clamp(min=torch.finfo(mean.dtype).tiny)
    return found


def encoded(host: HostModel, prompts: Sequence[Sequence[str]]) -> list[Conditioning]:
    """Lists of prompts of one length, read together."""
    count = len(prompts[0])
    together = host.encode([p for some in prompts for p in some])
    return [together[i * count : (i + 1) * count] for i in range(len(prompts))]


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
