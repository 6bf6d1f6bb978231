"""Second moments of text tokens, E[c c^T]: all that the closed form asks of hundreds of prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .text_reader import TextReader

PROMPTS_AT_ONCE = 64
"""Prompts whose tokens are in memory at once."""
TOKENS_AT_ONCE = 1024
"""Token vectors that are copied to float64 at once: all of them would take a gigabyte in the text space of SDXL."""


@dataclass(frozen=True)
class Moment:
    """E[c c^T] over the tokens c of some prompts, float64 `[d, d]`, and the number of the prompts."""

    value: Tensor
    prompts: int

    @classmethod
    def of(cls, tokens: Tensor) -> Moment:
        """Of tokens `[prompts, n, d]`."""
        return cls(second_moment(tokens), len(tokens))

    def __add__(self, other: Moment) -> Moment:
        both = self.prompts + other.prompts
        return Moment((self.value * self.prompts + other.value * other.prompts) / both, both)


def moment_of(
    reader: TextReader,
    prompts: Sequence[str],
    weights: Sequence[float] = (),
    pulse: Callable[[], None] = lambda: None,
) -> Moment:
    """Of the prompts' tokens, a part of them in memory at a time: for SDXL all would take half a gigabyte and more.

    weights: relative ones of the prompts; all the same where they are left out. A prompt's tokens share its weight.
    """
    total = torch.zeros((), dtype=torch.float64)
    for i in range(0, len(prompts), PROMPTS_AT_ONCE):
        found, some = reader.read(prompts[i : i + PROMPTS_AT_ONCE]), weights[i : i + PROMPTS_AT_ONCE]
        tokens = found.values
        if some:
            tokens = tokens * torch.tensor(some).to(tokens).sqrt()[:, None, None]
        if len({*found.counts, tokens.shape[1]}) > 1:
            # zeros that fill shorter prompts up are no tokens
            shares = tokens.shape[1] / torch.tensor(found.counts)
            tokens = tokens * shares.to(tokens).sqrt()[:, None, None]
        total = total + second_moment(tokens) * len(tokens)
        pulse()
    return Moment(total / (sum(weights) or len(prompts)), len(prompts))


def second_moment(tokens: Tensor) -> Tensor:
    """E[c c^T] over token vectors `[..., d]`, float64 `[d, d]`, on the CPU."""
    parts = (part.T @ part for (part,) in pieces(tokens))
    return sum(parts, start=next(parts)).cpu() / tokens[..., 0].numel()


def pieces(*tokens: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Token vectors `[..., d]` as float64 `[TOKENS_AT_ONCE, d]`, those of several tensors of one shape side by side."""
    flat = (t.flatten(0, -2).split(TOKENS_AT_ONCE) for t in tokens)
    yield from (tuple(map(exact, parts)) for parts in zip(*flat, strict=True))


def exact(values: Tensor) -> Tensor:
    """float64, on the CPU where the device has none."""
    return values.double() if works_in_float64(values.device) else values.cpu().double()


def works_in_float64(device: torch.device) -> bool:
    """Whether a card computes in float64, as MPS and some of Intel's do not."""
    return device.type == "cuda"
