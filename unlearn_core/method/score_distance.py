"""How near two prompts are to the model itself: score distance (LACU, arXiv 2512.02657 v2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..host import Conditioning, HostModel
from ..sampling import Probe
from ..saved_work import saved_tensor

TEXTS_AT_ONCE = 64
"""Prompts whose texts are compared at once: nearly two hundred would take gigabytes on the card, with Flux. It is a
multiple of what a text encoder reads at once, so that it reads the same ones together."""


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

    def distances() -> Tensor:
        answers, out = probe.compared(host, [reference, *candidates]), []
        base = next(answers)
        for d in answers:
            out.append((d - base).pow(2).flatten(1).mean(1).view(-1, probe.levels).mean(0))
            tick()
        return torch.stack(out)

    made_of = (probe.x, probe.sigma, *reference.parts(), *(part for c in candidates for part in c.parts()))
    return saved_tensor(host, "distances", made_of, distances)


def text_distances(reference: Conditioning, others: Conditioning) -> Tensor:
    """Mean squared distance of token vectors, `[rows of others]`; a free first sieve before `score_distances`."""
    return (others.tokens - reference.tokens).float().pow(2).mean((1, 2))


def texts_apart(host: HostModel, prompts: Sequence[str]) -> Tensor:
    """`text_distances` of the first prompt to all others, `[prompts - 1]`, some of them on the device at a time."""
    encoded = host.encode(prompts[:TEXTS_AT_ONCE])
    # a copy, as a slice would hold all that it is a part of
    first, found = encoded[[0]], [(text_distances(encoded[:1], encoded[1:]), encoded.tokens.shape[1])]
    for i in range(TEXTS_AT_ONCE, len(prompts), TEXTS_AT_ONCE):
        encoded = Conditioning.cat([first, host.encode(prompts[i : i + TEXTS_AT_ONCE])])
        found.append((text_distances(encoded[:1], encoded[1:]), encoded.tokens.shape[1]))
    # a mean over the zeros too that fill up shorter ones: as if all were as long as the longest
    longest = max(length for _, length in found)
    return torch.cat([distances * (length / longest) for distances, length in found])


def at_all_levels(profile: Tensor, count: int) -> Tensor:
    """Distances measured at a few noise levels, interpolated to all `count` trained ones, `[count]`."""
    few = profile.float().cpu()[None, None]
    return torch.nn.functional.interpolate(few, size=count, mode="linear", align_corners=False)[0, 0].clamp(min=0)


def importance(distances: Tensor, floor: float = 0.1) -> Tensor:
    """Probabilities of the noise levels from the distance of two prompts at each, `[levels]`.

    Levels are drawn where the prompts differ; `floor` of the mass stays uniform so that none is left out.
    """
    return (1 - floor) * distances / distances.sum() + floor / len(distances)
