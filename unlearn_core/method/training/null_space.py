"""Where in text space a delta may act: the directions in which the target differs from what has to be kept."""

from __future__ import annotations

import torch
from torch import Tensor

from ..token_moments import second_moment


def acting_directions(target: Tensor, mapped: Tensor, kept: Tensor, rank: int, strength: float) -> Tensor:
    """Rows of A `[rank, d]`, best first, scaled so that the target's tokens answer with unit variance along the first.

    target, mapped: tokens of the forget prompts and of their mapped prompts `[n, t, d]`. kept: S_k `[d, d]`.
    strength: mu, in units of the kept tokens' mean variance; 0 ignores them.
    """
    s_t = second_moment(target - mapped)
    identity = torch.eye(len(kept), dtype=kept.dtype)
    metric = identity + strength * kept / (kept.diagonal().mean())
    values, vectors = torch.linalg.eigh(metric)
    whiten = vectors @ torch.diag(values.rsqrt()) @ vectors.T
    gains, ways = torch.linalg.eigh(whiten @ s_t @ whiten)
    best = ways[:, gains.argsort(descending=True)[:rank]]
    rows = (whiten @ best).T
    response = (rows[:1] @ s_t @ rows[:1].T).clamp(min=1e-12).sqrt()
    return (rows / response).float()
