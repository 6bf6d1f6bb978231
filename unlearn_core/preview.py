"""Pictures of prompts under any stack, and grids of them, as tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .interfaces import HostModel
from .sampling import sample
from .stack import Stack


def pictures(
    host: HostModel,
    stack: Stack,
    prompts: Sequence[str],
    seed: int = 0,
    steps: int = 20,
    guidance: float = 3.0,
    tick: Callable[[], None] = lambda: None,
) -> Tensor:
    """One picture a prompt with the stack applied, `[prompts, 3, H, W]` in 0..1; picture i has noise i of `seed`."""
    with host.session(stack):
        latents = sample(host, host.encode(prompts), seed, steps, guidance, host.encode([""]), tick=tick)
        return host.decode(latents)


def grid(rows: Sequence[Tensor], gap: int = 4) -> Tensor:
    """Rows of pictures, each `[n, 3, H, W]`, as one picture `[3, H', W']` on white."""
    lines = [torch.cat(list(F.pad(row, (0, gap, 0, gap), value=1.0)), dim=2) for row in rows]
    width = max(line.shape[2] for line in lines)
    return torch.cat([F.pad(line, (0, width - line.shape[2]), value=1.0) for line in lines], dim=1)
