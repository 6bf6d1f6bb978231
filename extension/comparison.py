"""The same prompts with each of several stacks, as part of a job."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..unlearn_core import Cancelled, HostModel, Stack
from ..unlearn_core.preview import pictures
from ..unlearn_core.sampling import Sampler
from .jobs import Job


@dataclass(frozen=True)
class Comparison:
    """How prompts are generated: with the same noise for each stack."""

    job: Job
    host: HostModel
    stacks: Sequence[Stack]
    seed: int
    steps: int
    guidance: float

    def rows(self, prompts: Sequence[str]) -> list[Tensor]:
        """The pictures `[prompts, 3, H, W]` under each stack. Raises `Cancelled` after a stop."""
        tick = self.job.counter(len(self.stacks) * self.steps)
        sampler = Sampler(self.host, self.steps, self.guidance, tick)
        return [pictures(sampler, stack, prompts, self.seed) for stack in self.stacks]

    def rows_or_none(self, prompts: Sequence[str]) -> list[Tensor | None]:
        """The same for pictures that are only an addition: None for each stack after a stop or a failure."""
        if prompts and not self.job.view().stopping:
            try:
                return list(self.rows(prompts))
            except Cancelled:
                pass
            except Exception:
                # the delta is saved: pictures that cannot be made take nothing away from it
                traceback.print_exc()
        return [None] * len(self.stacks)
