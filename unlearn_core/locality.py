"""How near two prompts are to the model itself: score distance under the teacher (LACU, arXiv 2512.02657 v2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .interfaces import Conditioning, HostModel
from .sampling import direction, noise


@dataclass(frozen=True)
class Probe:
    """Some of the teacher's latents at several noise levels, the same noise for every prompt that is compared.

    x: `[latents * levels, c, h, w]`; sigma: `[latents * levels]`; noise as x; levels: their number.
    """

    x: Tensor
    sigma: Tensor
    noise: Tensor
    levels: int

    @classmethod
    def make(cls, host: HostModel, latents: Tensor, levels: Tensor, seed: int) -> Probe:
        """latents `[m, c, h, w]`, levels `[n]` -> every latent at every level, level fastest."""
        n = len(levels)
        z = latents.repeat_interleave(n, 0)
        sigma = levels.repeat(len(latents))
        draws = noise(z.shape, seed, z.device)
        return cls(host.noised(z, sigma, draws), sigma, draws, n)

    @torch.no_grad()
    def directions(self, host: HostModel, conditioning: Conditioning, batch: int = 64) -> Tensor:
        """d at every probe point; row i of `conditioning` is the prompt of latent i. `[latents * levels, c, h, w]`."""
        rows = [i for i in range(len(conditioning)) for _ in range(self.levels)]
        cond = conditioning[rows]
        parts = [slice(i, i + batch) for i in range(0, len(rows), batch)]
        return torch.cat([direction(host, self.x[p], self.sigma[p], cond[p]) for p in parts])


def probe_levels(host: HostModel, count: int) -> Tensor:
    """`count` noise levels in the middles of equal parts of the trained range, ascending, `[count]`."""
    n = len(host.sigmas)
    at = ((torch.arange(count) + 0.5) * n / count).long()
    return host.sigmas[at.to(host.sigmas.device)]


def score_distances(
    host: HostModel,
    probe: Probe,
    reference: Conditioning,
    candidates: Sequence[Conditioning],
    tick: Callable[[], None] = lambda: None,
) -> Tensor:
    """d_score(p, q) = E || d(z_s; s, p) - d(z_s; s, q) ||^2 for each candidate and noise level, `[candidates, levels]`.

    reference and each candidate have one row per latent of the probe.
    """
    base = probe.directions(host, reference)
    out = []
    for candidate in candidates:
        gap = (probe.directions(host, candidate) - base).pow(2).flatten(1).mean(1)
        out.append(gap.view(-1, probe.levels).mean(0))
        tick()
    return torch.stack(out)


def text_distances(reference: Conditioning, others: Conditioning) -> Tensor:
    """Mean squared distance of token vectors, `[rows of others]`; a free first sieve before `score_distances`."""
    return (others.tokens - reference.tokens).float().pow(2).mean((1, 2))


def at_all_levels(profile: Tensor, count: int) -> Tensor:
    """Distances measured at a few noise levels, interpolated to all `count` trained ones, `[count]`."""
    few = profile.float().cpu()[None, None]
    return torch.nn.functional.interpolate(few, size=count, mode="linear", align_corners=False)[0, 0].clamp(min=0)


def importance(distances: Tensor, floor: float = 0.1) -> Tensor:
    """Probabilities of the noise levels from the distance of two prompts at each, `[levels]`.

    Levels are drawn where the prompts differ; `floor` of the mass stays uniform so that none is left out.
    """
    return (1 - floor) * distances / distances.sum() + floor / len(distances)
