"""The losses of arXiv 2512.02657 as they are: re-steering, generative replay, distance to the previous model.

    L = w_u || d_S(z_s; s, p_f) - d_T(z_s; s, m(p_f)) ||^2 + w_p || d_S(z_s; s, p_r) - d_T(z_s; s, p_r)||^2 + w_r |dW|^2

z is the teacher's own picture of the forget or replay prompt. `dfr.py` and `lacu.py` choose m and p_r.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from benchmarks.learned import Learned
from benchmarks.task import Task
from unlearn_core.method.training import losses
from unlearn_core.sampling import LatentBank, direction

from .descent import Descent, doubled, fresh_noise, levels, rows
from .learner import Learner


@dataclass(frozen=True)
class Continual:
    """What both versions of the paper set.

    forget_weight, keep_weight, drift_weight: w_u, w_p, w_r. limit: part of the noise levels that forget rows see.
    """

    learning_rate: float = 1e-4
    steps: int = 200
    batch: int = 8
    warm_up: int = 0
    forget_weight: float = 1.0
    keep_weight: float = 10.0
    drift_weight: float = 1e-4
    limit: float = 1.0
    sampling_steps: int = 8

    def train(self, task: Task, learner: Learner, replaced: Sequence[str], replay: Sequence[str]) -> None:
        """`batch` forget rows at the lowest part `limit` of the noise levels, as many replay rows at all of them.

        replaced: m(p) of each forget prompt.
        """
        host = task.host
        goals = host.encode(list(replaced))
        forget = LatentBank.draw(host, host.encode(task.prompts), 1, task.seed, self.sampling_steps)
        kept = LatentBank.draw(host, host.encode(list(replay)), 1, task.seed + 1, self.sampling_steps)

        def loss(generator: torch.Generator) -> torch.Tensor:
            batch = self.batch
            which, others = rows(len(forget), batch, generator), rows(len(kept), batch, generator)
            sigma = torch.cat([levels(host, batch, generator, self.limit), levels(host, batch, generator)])
            latents = torch.cat([forget.pick(which, generator), kept.pick(others, generator)])
            x = host.noised(latents, sigma, fresh_noise(host, 2 * batch, generator))
            same = kept.conditioning[others]
            with torch.no_grad(), learner.before():
                goal = direction(host, x, sigma, doubled(goals[which], same))
            found = direction(host, x, sigma, doubled(forget.conditioning[which], same))
            distance = losses.squared_distance(found, goal)
            fit = self.forget_weight * distance[:batch].mean() + self.keep_weight * distance[batch:].mean()
            return fit + self.drift_weight * learner.drift()

        Descent(self.steps, self.learning_rate, task.seed, task.tick, self.warm_up).run(learner.parameters, loss)


def erased(past: Sequence[Learned], each: int = 4) -> list[str]:
    """Some forget prompts of each earlier request."""
    return [p for one in past for p, _ in one.prompts[:each]]
