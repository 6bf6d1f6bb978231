"""GEM's loss as a LoRA in sequence: away from the concept until the answer is nearer to another prompt's.

    L = relu(|| v_S(x; s, c) - v_T(x; s, a) || - || v_S(x; s, c) - v_T(x; s, c) ||)

x is on the student's own first steps from noise, where what a picture shows is decided. Published for the query and key
layers of joint-attention transformers; here on those of the text. The anchor a is a harmless rewording: the category's
word in the concept's place (`neighbour` takes the nearest other concept).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmarks.learned import Learned, under
from benchmarks.task import Task
from unlearn_core.sampling import Sampler, direction, schedule

from .descent import Descent, fresh_noise, rows
from .learner import lora


@dataclass(frozen=True)
class GEM:
    """Settings; `GRID` is what `search` tries."""

    name: ClassVar[str] = "gem-lora"
    label: ClassVar[str] = "GEM loss, LoRA"
    GRID: ClassVar[dict] = {"learning_rate": (1e-3, 3e-3), "steps": (100, 200)}
    learning_rate: float = 1e-3
    steps: int = 200
    batch: int = 4
    rank: int = 4
    layers: str = "cross"
    first: int = 3
    sampling_steps: int = 8
    neighbour: bool = False

    def learn(self, task: Task) -> Learned:
        """Train one request on top of the earlier ones."""
        host, sigmas = task.host, schedule(task.host, self.sampling_steps)
        anchor = task.request.anchor or (task.nearest()[0] if self.neighbour else task.superclass())
        with under(host, task.past) as backbone, lora(task, backbone, self.layers, self.rank) as learner:
            named, other = (host.encode(p) for p in (task.prompts, task.mapped(anchor)))
            sampler = Sampler(host, self.sampling_steps, 1.0)

            def loss(generator: torch.Generator) -> Tensor:
                which = rows(len(named), self.batch, generator)
                asked, until = named[which], int(rows(self.first, 1, generator))
                x = sampler.along(asked, fresh_noise(host, self.batch, generator), sigmas[: until + 1])
                sigma = sigmas[until].expand(self.batch)
                with torch.no_grad(), learner.before():
                    goal, old = (direction(host, x, sigma, c) for c in (other[which], asked))
                now = direction(host, x, sigma, asked)
                return (distance(now, goal) - distance(now, old)).relu().mean()

            Descent(self.steps, self.learning_rate, task.seed, task.tick).run(learner.parameters, loss)
            return learner.learned(anchor, task.pairs(task.mapped(anchor)), self.steps)


def distance(one: Tensor, other: Tensor) -> Tensor:
    """|| one - other || of each row, `[b]`."""
    return (one - other).flatten(1).norm(dim=1)
