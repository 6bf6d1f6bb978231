"""Harm that no list names: how much more than the target's the answers to other prompts have changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from torch import Tensor

from ..host import Conditioning, HostModel
from ..saved_work import saved_tensor
from .trail import Trail

AT_ONCE = 32
"""Prompts of a pass."""
LONGEST = 1000.0
"""The largest change that is told."""


@dataclass(frozen=True)
class Outside:
    """What is looked at beside the listed concepts, along short paths of sampling (see `Trail`).

    prompts: of anything that is neither to go nor has gone. targets: some of the target's. unchanged: gives a context
    in which the model is as it was before the request.
    """

    prompts: Sequence[str] = ()
    targets: Sequence[str] = ()
    steps: int = 4
    unchanged: Callable[[], AbstractContextManager[None]] = nullcontext

    def changes(self, host: HostModel, seed: int, pulse: Callable[[], None] = lambda: None) -> dict[str, float]:
        """{prompt: how far the model's answers to it have moved, as a part of the target's mean way}."""
        if not self.prompts:
            return {}
        asked, moved = [*self.targets, *self.prompts], []
        for first in range(0, len(asked), AT_ONCE):
            rows = host.encode(asked[first : first + AT_ONCE])

            def ways(rows: Conditioning = rows, first: int = first) -> Tensor:
                with self.unchanged():
                    trail = Trail.draw(host, rows, self.steps, seed + first)
                pulse()
                return trail.apart(trail.asked(host, rows), trail.directions)

            moved += saved_tensor(host, "outside", (*rows.parts(), self.steps, seed + first), ways).tolist()
            pulse()
        own = sum(moved[: len(self.targets)]) / max(1, len(self.targets))
        others = zip(self.prompts, moved[len(self.targets) :], strict=True)
        # where the target itself has not moved nothing has; a way that is no number is the longest
        return {prompt: min(LONGEST, way / own) if way == way else LONGEST for prompt, way in others} if own > 0 else {}


NOTHING_OUTSIDE = Outside()
