"""The losses of arXiv 2512.02657 as they are: re-steering, generative replay, distance to the previous model.

    L = w_u || d_S(z_s; s, p_f) - d_T(z_s; s, m(p_f)) ||^2 + w_p || d_S(z_s; s, p_r) - d_T(z_s; s, p_r)||^2 + w_r |dW|^2

z is the teacher's own picture of the forget or replay sentence. `dfr.py` and `lacu.py` choose m and p_r.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from unlearn_core.method.training import losses
from unlearn_core.sampling import LatentBank, direction

from ..changes import Learned
from .student import Student, Task, Tick, descend, doubled, fresh_noise, levels, rows


@dataclass(frozen=True)
class Weights:
    """w_u, w_p, w_r of the papers."""

    forget: float
    keep: float
    drift: float


def distil(
    task: Task,
    student: Student,
    replaced: Sequence[str],
    replay: Sequence[str],
    weights: Weights,
    steps: int,
    learning_rate: float,
    batch: int,
    limit: float,
    warm_up: int,
    sampling_steps: int,
    tick: Tick,
) -> None:
    """Train: `batch` forget rows at the lowest part `limit` of the noise levels, as many replay rows at all of them."""
    host = task.host
    goals = host.encode(list(replaced))
    forget = LatentBank.draw(host, host.encode(task.prompts), 1, task.seed, sampling_steps)
    kept = LatentBank.draw(host, host.encode(list(replay)), 1, task.seed + 1, sampling_steps)

    def loss(generator: torch.Generator) -> torch.Tensor:
        which, others = rows(len(forget), batch, generator), rows(len(kept), batch, generator)
        sigma = torch.cat([levels(host, batch, generator, limit), levels(host, batch, generator)])
        latents = torch.cat([forget.pick(which, generator), kept.pick(others, generator)])
        x = host.noised(latents, sigma, fresh_noise(host, 2 * batch, generator))
        same = kept.conditioning[others]
        with torch.no_grad(), student.teacher():
            goal = direction(host, x, sigma, doubled(goals[which], same))
        found = direction(host, x, sigma, doubled(forget.conditioning[which], same))
        distance = losses.squared_distance(found, goal)
        fit = weights.forget * distance[:batch].mean() + weights.keep * distance[batch:].mean()
        return fit + weights.drift * student.drift()

    descend(student.parameters, loss, steps, learning_rate, task.seed, tick, warm_up)


def erased(past: Sequence[Learned], each: int = 4) -> list[str]:
    """Some forget sentences of each earlier request."""
    return [p for one in past for p, _ in one.prompts[:each]]
