"""Concept ablation (Kumari et al. 2023, arXiv 2303.13516), model-based, with one fixed anchor: the superclass.

    L = || d_S(z*_s; s, p_f) - sg d_S(z*_s; s, m(p_f)) ||^2 + || d_S(z*_s; s, m(p_f)) - d ||^2

z* are the model's own pictures of the anchor's prompts and d their true direction (the paper's prior preservation).
Paper: key and value matrices of cross-attention, 100 to 200 updates of 8 at 2e-6 times batch. For styles, and things
without a superclass in the word list, the anchor is the prompt without the concept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from benchmarks.learned import Learned, under
from benchmarks.task import Task
from unlearn_core.method.text_layers import is_target
from unlearn_core.method.training import losses
from unlearn_core.sampling import LatentBank, direction

from .descent import Descent, doubled, fresh_noise, levels, rows
from .learner import whole


@dataclass(frozen=True)
class ConceptAblation:
    """Settings with the paper's, scaled; `GRID` is what `search` tries."""

    name: ClassVar[str] = "concept-ablation"
    label: ClassVar[str] = "concept ablation, one anchor, K/V"
    GRID: ClassVar[dict] = {"learning_rate": (3e-5, 1e-4, 3e-4), "steps": (100, 200)}
    learning_rate: float = 3e-4
    steps: int = 200
    batch: int = 8
    prior_weight: float = 1.0
    sampling_steps: int = 8

    def learn(self, task: Task) -> Learned:
        """Train one request on top of the earlier ones."""
        host, anchor = task.host, task.request.anchor or task.superclass()
        with under(host, task.past) as backbone, whole(task, backbone, lambda n: is_target(n, "kv")) as learner:
            prompts, replaced = host.encode(task.prompts), host.encode(task.mapped(anchor))
            bank = LatentBank.draw(host, replaced, 1, task.seed, self.sampling_steps)

            def loss(generator: torch.Generator) -> torch.Tensor:
                which = rows(len(bank), self.batch, generator)
                sigma, draws = levels(host, self.batch, generator), fresh_noise(host, self.batch, generator)
                latents = bank.pick(which, generator)
                x = host.noised(latents, sigma, draws)
                both = doubled(prompts[which], replaced[which])
                found, anchored = direction(host, torch.cat([x, x]), torch.cat([sigma, sigma]), both).chunk(2)
                truth = (x - latents) / sigma.view(-1, 1, 1, 1)
                prior = losses.squared_distance(anchored, truth).mean()
                return losses.squared_distance(found, anchored).mean() + self.prior_weight * prior

            Descent(self.steps, self.learning_rate, task.seed, task.tick).run(learner.parameters, loss)
            return learner.learned(anchor, task.pairs(task.mapped(anchor)), self.steps)
