"""DFR (arXiv 2512.02657 v1): the whole UNet, one mapping a request, replay of unrelated prompts.

Paper: 600 updates of 78 at 1e-5, weights 1, 10, 1e-4, noise levels up to 600 of 1000, 50 unrelated prompts, mapping by
a language model. Here the mapping is the nearest word of the list, the range is full (on 16x16 latents the noisiest
part decides what is drawn, so the paper's limit forgets nothing), updates and batch are fewer and the rate is higher.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from benchmarks.learned import Learned, under
from benchmarks.task import Task
from unlearn_core.words.prompts import scenes, spread

from .continual import Continual
from .learner import whole

UNRELATED = 50


@dataclass(frozen=True)
class DFR(Continual):
    """Settings with the paper's, scaled; `GRID` is what `search` tries."""

    name: ClassVar[str] = "dfr-full"
    label: ClassVar[str] = "DFR v1 losses, whole UNet"
    GRID: ClassVar[dict] = {"learning_rate": (3e-5, 1e-4, 3e-4), "steps": (150, 300)}

    def learn(self, task: Task) -> Learned:
        """Train one request on top of the earlier ones."""
        ranked = task.nearest()
        anchor = task.request.anchor or ranked[0]
        objects = [o for o in task.rest.all_objects if o not in ranked[:5]]
        unrelated = [s.prompt for o in objects for s in scenes(task.rest, o, "object", 5, task.seed + 2)]
        replay = spread(unrelated, UNRELATED, task.seed)
        with under(task.host, task.past) as backbone, whole(task, backbone) as learner:
            self.train(task, learner, task.mapped(anchor), replay)
            return learner.learned(anchor, task.pairs(task.mapped(anchor)), self.steps, objects)
