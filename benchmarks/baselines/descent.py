"""The loop of the baselines that train, and what each of their steps draws at random."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.models import OpenModel
from benchmarks.task import Tick, silent
from unlearn_core.errors import TrainingFailed
from unlearn_core.host import Conditioning
from unlearn_core.sampling import noise


@dataclass(frozen=True)
class Descent:
    """AdamW at a constant rate after a linear warm-up, gradients clipped at 1."""

    steps: int
    learning_rate: float
    seed: int
    tick: Tick = silent
    warm_up: int = 0

    def run(self, parameters: Sequence[nn.Parameter], loss_of: Callable[[torch.Generator], Tensor]) -> None:
        """Lower the loss. Raises `TrainingFailed` when it is no longer a number."""
        generator = torch.Generator().manual_seed(self.seed)
        optimizer = torch.optim.AdamW(parameters, self.learning_rate, weight_decay=0.0)
        for step in range(1, self.steps + 1):
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate * min(1.0, step / max(1, self.warm_up))
            with torch.enable_grad():
                loss = loss_of(generator)
                loss.backward()
            if not math.isfinite(float(loss.detach())):
                raise TrainingFailed("The loss is no longer a number; try a lower learning rate.")
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            self.tick(step / self.steps)


def rows(count: int, size: int, generator: torch.Generator) -> Tensor:
    """`size` row numbers out of `count`."""
    return torch.randint(0, count, (size,), generator=generator)


def levels(host: OpenModel, size: int, generator: torch.Generator, limit: float = 1.0) -> Tensor:
    """Noise levels `[size]` from the lowest part `limit` (0..1) of the trained range."""
    return host.sigmas[rows(max(1, int(limit * len(host.sigmas))), size, generator).to(host.sigmas.device)]


def fresh_noise(host: OpenModel, size: int, generator: torch.Generator) -> Tensor:
    """Normal noise `[size, c, h, w]`, another one at each call."""
    return noise((size, *host.latent_shape), int(rows(2**31 - 1, 1, generator)), host.device)


def doubled(one: Conditioning, other: Conditioning) -> Conditioning:
    """Two batches of prompts as one."""
    return Conditioning.cat([one, other])
