"""Score distances by successive halving: all candidates at a few points, only those in the lead at more.

Karnin, Koren, Somekh, "Almost Optimal Exploration in Multi-Armed Bandits", ICML 2013. Candidates share all noise, so
that differences between them are known from few points.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..host import Conditioning, HostModel
from ..recipe import Recipe
from ..sampling import Probe, probe_levels
from .score_distance import score_distances

LEADERS = 5
"""Most candidates that are compared at more points."""


def raced(
    host: HostModel,
    latents: Tensor,
    encoded: Sequence[Conditioning],
    recipe: Recipe,
    seed: int,
    tick: Callable[[], None],
) -> Tensor:
    """Score distances of candidates to the target, `[candidates]`, those in the lead measured more closely.

    latents: the target's pictures `[m, c, h, w]`. encoded: a row each of the target's prompts, then of the candidates'.
    """
    levels = recipe.anchor_levels
    half = max(1, min(2, len(latents) // 2))
    first = [(5 * levels) // 8, levels - 1]
    found = at_points(host, latents, encoded, (range(half), first, levels), seed, tick)
    order = found.argsort().tolist()
    leaders = [i for i in order[:LEADERS] if not found[i] > recipe.race_open * found[order[0]]]
    more = range(half, min(2 * half, len(latents)))
    if len(leaders) > 1 and len(more):
        odd = list(range(1, levels, 2))
        chosen = [encoded[0], *(encoded[1 + i] for i in leaders)]
        closer = at_points(host, latents, chosen, (more, odd, levels), seed + 1, tick)
        points = len(range(half)) * len(first), len(more) * len(odd)
        mean = (found[leaders] * points[0] + closer * points[1]) / sum(points)
        # whoever leads at both stays in the lead: among those that are not compared again nobody comes between
        found[leaders] = mean * (found[order[0]] / mean.min()).clamp(max=1)
    return found


def at_points(
    host: HostModel,
    latents: Tensor,
    encoded: Sequence[Conditioning],
    points: tuple[Sequence[int], Sequence[int], int],
    seed: int,
    tick: Callable[[], None],
) -> Tensor:
    """Mean score distances at some latents and levels, `[candidates]` on the CPU.

    points: (numbers of latents, numbers of levels, how many levels there are).
    """
    rows, levels, count = list(points[0]), points[1], points[2]
    sigmas = probe_levels(host, count)[torch.tensor(levels, device=host.sigmas.device)]
    probe = Probe.make(host, latents[rows], sigmas, seed)
    asked = [c[rows] for c in encoded]
    return score_distances(host, probe, asked[0], asked[1:], tick).mean(1).float().cpu()
