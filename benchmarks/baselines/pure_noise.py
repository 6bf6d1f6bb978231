"""Text-anchor distillation on pure noise, in the way of iLECO: no picture is ever drawn.

    L = || d_S(s n; s, p_f) - d_T(s n; s, m(p_f)) ||^2,  n ~ N(0, I)

The fastest of the published ways, and what the community trains. One anchor a request: the nearest word.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from benchmarks.learned import Learned, under
from benchmarks.task import Task
from unlearn_core.method.training import losses
from unlearn_core.sampling import direction

from .descent import Descent, fresh_noise, levels, rows
from .learner import lora


@dataclass(frozen=True)
class PureNoise:
    """Settings; `GRID` is what `search` tries."""

    name: ClassVar[str] = "pure-noise-lora"
    label: ClassVar[str] = "text anchor on pure noise (iLECO), LoRA"
    GRID: ClassVar[dict] = {"learning_rate": (1e-3, 3e-3, 1e-2), "steps": (40, 100)}
    learning_rate: float = 3e-3
    steps: int = 200
    batch: int = 8
    rank: int = 4
    layers: str = "cross"

    def learn(self, task: Task) -> Learned:
        """Train one request on top of the earlier ones."""
        host, anchor = task.host, task.request.anchor or task.nearest()[0]
        with under(host, task.past) as backbone, lora(task, backbone, self.layers, self.rank) as learner:
            prompts, replaced = host.encode(task.prompts), host.encode(task.mapped(anchor))
            nothing = torch.zeros(self.batch, *host.latent_shape, device=host.device)

            def loss(generator: torch.Generator) -> torch.Tensor:
                which = rows(len(prompts), self.batch, generator)
                sigma = levels(host, self.batch, generator)
                x = host.noised(nothing, sigma, fresh_noise(host, self.batch, generator))
                with torch.no_grad(), learner.before():
                    goal = direction(host, x, sigma, replaced[which])
                return losses.squared_distance(direction(host, x, sigma, prompts[which]), goal).mean()

            Descent(self.steps, self.learning_rate, task.seed, task.tick).run(learner.parameters, loss)
            return learner.learned(anchor, task.pairs(task.mapped(anchor)), self.steps)
