"""Pictures of prompts under any stack, and grids of them, as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from .delta.stack import Stack
from .device_memory import small_passes
from .sampling import Sampler


def pictures(sampler: Sampler, stack: Stack, prompts: Sequence[str], seed: int = 0) -> Tensor:
    """One picture a prompt with the stack applied, `[prompts, 3, H, W]` in 0..1; picture i has noise i of `seed`."""
    with sampler.host.session(stack):
        return drawn(replace(sampler, host=small_passes(sampler.host)), prompts, seed)


def drawn(sampler: Sampler, prompts: Sequence[str], seed: int = 0) -> Tensor:
    """The same by the model as it is."""
    host = sampler.host
    return host.decode(sampler.draw(host.encode(prompts), seed))


def grid(rows: Sequence[Tensor], gap: int = 4) -> Tensor:
    """Rows of pictures, each `[n, 3, H, W]`, as one picture `[3, H', W']` on white."""
    lines = [torch.cat(list(F.pad(row, (0, gap, 0, gap), value=1.0)), dim=2) for row in rows]
    width = max(line.shape[2] for line in lines)
    return torch.cat([F.pad(line, (0, width - line.shape[2]), value=1.0) for line in lines], dim=1)
