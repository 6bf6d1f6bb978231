"""DFR (arXiv 2512.02657 v1): the whole UNet, one mapping a request, replay of unrelated sentences.

Paper: 600 updates of 78 at 1e-5, weights 1, 10, 1e-4, noise levels up to 600 of 1000, 50 unrelated prompts, mapping by
a language model. Here the mapping is the nearest word of the list, the range is full (on 16x16 latents the noisiest
part decides what is drawn, so the paper's limit forgets nothing), updates and batch are fewer and the rate is higher.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from unlearn_core.standalone.model import StandaloneModel
from unlearn_core.words.prompts import scenes, spread

from ..changes import Learned, under
from ..sequences import Request
from .continual import Weights, distil
from .student import Task, Tick, whole

UNRELATED = 50


@dataclass(frozen=True)
class DFR:
    """Settings with the paper's, scaled; `GRID` is what `--search` tries."""

    name: ClassVar[str] = "dfr-full"
    label: ClassVar[str] = "DFR v1 losses, whole UNet"
    GRID: ClassVar[dict] = {"learning_rate": (3e-5, 1e-4, 3e-4), "steps": (150, 300)}
    learning_rate: float = 1e-4
    steps: int = 200
    batch: int = 8
    forget_weight: float = 1.0
    keep_weight: float = 10.0
    drift_weight: float = 1e-4
    limit: float = 1.0
    sampling_steps: int = 8

    def learn(self, host: StandaloneModel, request: Request, past: Sequence[Learned], seed: int, tick: Tick) -> Learned:
        """Train one request on top of the earlier ones."""
        task = Task.make(host, request, past, seed)
        ranked = task.nearest()
        anchor = request.anchor or ranked[0]
        objects = [o for o in task.rest.all_objects if o not in ranked[:5]]
        sentences = [s.prompt for o in objects for s in scenes(task.rest, o, "object", 5, seed + 2)]
        replay = spread(sentences, UNRELATED, seed)
        with under(host, past) as backbone, whole(task, backbone) as student:
            distil(
                task,
                student,
                task.mapped(anchor),
                replay,
                Weights(self.forget_weight, self.keep_weight, self.drift_weight),
                self.steps,
                self.learning_rate,
                self.batch,
                self.limit,
                0,
                self.sampling_steps,
                tick,
            )
            return student.learned(anchor, task.pairs(task.mapped(anchor)), self.steps, objects)
