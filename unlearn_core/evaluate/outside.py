"""Harm that no list names: how much more than the target's the answers to other prompts have changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from ..host import HostModel
from ..sampling import noise, schedule
from ..saved_work import number_of, saved_tensor
from .remembered import Remembered
from .trail import Trail

AT_ONCE = 32
"""Prompts of a pass."""
LONGEST = 1000.0
"""The largest change that is told."""
UNMOVED = 1e-7
"""Mean squared change of the answers to the target below which nothing has happened to compare others with."""


@dataclass(frozen=True)
class Outside:
    """What is looked at beside the listed concepts, along short paths of sampling (see `Trail`).

    prompts: of anything that is neither to go nor has gone. targets: some of the target's. unchanged: gives a context
    in which the model is as it was before the request. remembered: paths of earlier runs; None: all go together, none
    is kept. clear: change, as a part of the target's, up to which the first point of a path says enough; below 0 all
    paths are followed to their ends.
    """

    prompts: Sequence[str] = ()
    targets: Sequence[str] = ()
    steps: int = 4
    unchanged: Callable[[], AbstractContextManager[None]] = nullcontext
    remembered: Remembered | None = None
    clear: float = -1.0

    def changes(self, host: HostModel, seed: int, pulse: Callable[[], None] = lambda: None) -> dict[str, float]:
        """{prompt: how far the model's answers to it have moved, as a part of the target's mean way}."""
        if not self.prompts:
            return {}
        found = self.compared(host, self.prompts, 1 if self.clear >= 0 else self.steps, seed, pulse)
        further = [prompt for prompt, way in found.items() if way > self.clear]
        if self.clear >= 0 and further:
            found |= self.compared(host, further, self.steps, seed, pulse)
        return found

    def compared(
        self, host: HostModel, prompts: Sequence[str], points: int, seed: int, pulse: Callable[[], None]
    ) -> dict[str, float]:
        """`changes` of some prompts at the first points of the paths."""
        asked, moved = [*self.targets, *prompts], []
        for first in range(0, len(asked), AT_ONCE):
            part = asked[first : first + AT_ONCE]
            if self.remembered is not None:
                moved += self.moved(host, part, points, seed, self.remembered).tolist()
            else:
                moved += self.moved_together(host, part, seed + first, pulse).tolist()
            pulse()
        own = sum(moved[: len(self.targets)]) / max(1, len(self.targets))
        others = zip(prompts, moved[len(self.targets) :], strict=True)
        # where the target itself has hardly moved nothing has; a way that is no number is the longest
        if own <= UNMOVED:
            return {}
        return {prompt: min(LONGEST, way / own) if way == way else LONGEST for prompt, way in others}

    def moved_together(self, host: HostModel, prompts: Sequence[str], seed: int, pulse: Callable[[], None]) -> Tensor:
        """How far the answers to each prompt have moved, `[prompts]`, on whole paths that share a seed."""
        rows = host.encode(prompts)

        def ways() -> Tensor:
            with self.unchanged():
                trail = Trail.draw(host, rows, self.steps, seed)
            pulse()
            return trail.apart(trail.asked(host, rows), trail.directions)

        return saved_tensor(host, "outside", (*rows.parts(), self.steps, seed), ways)

    def moved(self, host: HostModel, prompts: Sequence[str], points: int, seed: int, remembered: Remembered) -> Tensor:
        """The same at the first points of paths that other runs may have gone before."""
        rows, seeds = host.encode(prompts), [number_of("outside", seed, prompt) for prompt in prompts]
        start = torch.cat([noise((1, *host.latent_shape), s, host.device) for s in seeds])

        def gone(missing: list[int]) -> Tensor:
            trail = Trail.along(host, rows[missing], start[missing], self.steps, points)
            both = torch.stack([trail.x, trail.directions], 1)
            return both.view(points, len(missing), *both.shape[1:]).transpose(0, 1)

        def ways() -> Tensor:
            keys = [("outside", s, *rows[[i]].parts(), self.steps, points) for i, s in enumerate(seeds)]
            with self.unchanged():
                paths = remembered.rows(keys, gone, (points, 2, *host.latent_shape)).to(host.device)
            x, directions = paths.transpose(0, 1).flatten(0, 1).unbind(1)
            sigma = schedule(host, self.steps)[:points].repeat_interleave(len(prompts))
            trail = Trail(x, sigma, directions, len(prompts))
            return trail.apart(trail.asked(host, rows), directions)

        return saved_tensor(host, "outside", (start, *rows.parts(), self.steps, points), ways)


NOTHING_OUTSIDE = Outside()
