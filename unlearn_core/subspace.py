"""Where in text space a delta may act: the directions in which the target differs from what has to be kept.

All requests read the same token vectors, so interference can be computed: a delta B A leaves a token c alone
exactly when A c = 0. Rows of A are taken from the generalised eigenproblem

    maximise  a^T S_t a / a^T (I + mu S_k) a

with S_t the second moment of (target token - mapped token) and S_k that of all tokens that must not move. For
mu = 0 these are the principal directions of the edit; for mu to infinity the hard null space of S_k.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

AT_ONCE = 1024
"""Token vectors that are copied to float64 at once: all of them would take a gigabyte in the text space of SDXL."""


def second_moment(tokens: Tensor) -> Tensor:
    """E[c c^T] over token vectors `[..., d]`, float64 `[d, d]`, on the CPU."""
    return sum(part.T @ part for (part,) in pieces(tokens)).cpu() / tokens[..., 0].numel()


def pieces(*tokens: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Token vectors `[..., d]` as float64 `[AT_ONCE, d]`, those of several tensors of one shape side by side."""
    flat = (t.flatten(0, -2).split(AT_ONCE) for t in tokens)
    yield from (tuple(map(exact, parts)) for parts in zip(*flat, strict=True))


@dataclass(frozen=True)
class Moment:
    """All that a method asks of many sentences: E[c c^T] over their tokens c, float64 `[d, d]`, and their number."""

    value: Tensor
    sentences: int

    @classmethod
    def of(cls, tokens: Tensor) -> Moment:
        """Of tokens `[sentences, n, d]`."""
        return cls(second_moment(tokens), len(tokens))

    def __add__(self, other: Moment) -> Moment:
        both = self.sentences + other.sentences
        return Moment((self.value * self.sentences + other.value * other.sentences) / both, both)


def exact(values: Tensor) -> Tensor:
    """float64, on the CPU where the device has none (MPS, some of Intel's)."""
    return values.double() if values.is_cuda else values.cpu().double()


def kept_change(down: Tensor, up: Tensor, moment: Tensor) -> Tensor:
    """E || B A c ||^2 over kept tokens c, without forming B A: tr((B^T B)(A S A^T)), S = E[c c^T] `[d, d]`.

    A `[..., r, d]`, B `[..., out, r]` -> `[...]`.
    A soft null space as a penalty: it is zero exactly when the delta leaves every kept token alone.
    """
    return ((up.mT @ up) * (down @ moment @ down.mT)).sum((-2, -1))


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
