"""ESD (Gandikota et al. 2023, arXiv 2303.07345) as a LoRA in sequence: negative guidance away from the concept.

    L = || d_S(x; s, c) - [d_T(x; s, "") - eta (d_T(x; s, c) - d_T(x; s, ""))] ||^2

x is on the student's own way from noise to a picture of c, at guidance 3. Paper: eta 1, cross-attention (ESD-x),
1000 iterations of one picture at 1e-5, all weights. Here: LoRA of rank 4 on cross-attention, batch 4; `dense` learns
the matrices themselves, as the paper does.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from benchmarks.learned import Learned, under
from benchmarks.task import Task
from unlearn_core.method.text_layers import is_target
from unlearn_core.method.training import losses
from unlearn_core.sampling import Sampler, direction, schedule

from .descent import Descent, fresh_noise, rows
from .learner import Learner, lora, whole


@dataclass(frozen=True)
class ESD:
    """Settings with the paper's, scaled; `GRID` is what `search` tries."""

    name: ClassVar[str] = "esd-lora"
    label: ClassVar[str] = "ESD-x objective, LoRA"
    GRID: ClassVar[dict] = {"learning_rate": (3e-4, 1e-3, 3e-3), "steps": (100, 200)}
    learning_rate: float = 1e-3
    steps: int = 200
    batch: int = 4
    rank: int = 4
    layers: str = "cross"
    eta: float = 1.0
    guidance: float = 3.0
    sampling_steps: int = 8
    dense: bool = False

    def learn(self, task: Task) -> Learned:
        """Train one request on top of the earlier ones."""
        host, sigmas = task.host, schedule(task.host, self.sampling_steps)
        with under(host, task.past) as backbone, self.learner(task, backbone) as learner:
            prompts, empty = host.encode(task.prompts), host.encode([""])
            nothing = empty[[0] * self.batch]
            sampler = Sampler(host, self.sampling_steps, self.guidance, negative=empty)

            def loss(generator: torch.Generator) -> torch.Tensor:
                asked = prompts[rows(len(prompts), self.batch, generator)]
                until = 1 + int(rows(self.sampling_steps - 1, 1, generator))
                x = sampler.along(asked, fresh_noise(host, self.batch, generator), sigmas[: until + 1])
                sigma = sigmas[until].expand(self.batch)
                with torch.no_grad(), learner.before():
                    named, unnamed = direction(host, x, sigma, asked), direction(host, x, sigma, nothing)
                goal = unnamed - self.eta * (named - unnamed)
                return losses.squared_distance(direction(host, x, sigma, asked), goal).mean()

            Descent(self.steps, self.learning_rate, task.seed, task.tick).run(learner.parameters, loss)
            return learner.learned("", task.pairs([""] * len(task.prompts)), self.steps)

    def learner(self, task: Task, backbone: nn.Module) -> AbstractContextManager[Learner]:
        """A LoRA on the layers of the kind, or the layers themselves."""
        if self.dense:
            return whole(task, backbone, lambda name: is_target(name, self.layers))
        return lora(task, backbone, self.layers, self.rank)
