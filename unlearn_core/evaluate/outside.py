"""Harm that no list names: how much more than the target's the answers to other prompts have changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from ..host import Conditioning, HostModel
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
    is kept.
    """

    prompts: Sequence[str] = ()
    targets: Sequence[str] = ()
    steps: int = 4
    unchanged: Callable[[], AbstractContextManager[None]] = nullcontext
    remembered: Remembered | None = None

    def changes(self, host: HostModel, seed: int, pulse: Callable[[], None] = lambda: None) -> dict[str, float]:
        """{prompt: how far the model's answers to it have moved, as a part of the target's mean way}."""
        if not self.prompts:
            return {}
        asked, moved = [*self.targets, *self.prompts], []
        for first in range(0, len(asked), AT_ONCE):
            if self.remembered is not None:
                moved += self.moved(host, asked[first : first + AT_ONCE], seed, self.remembered).tolist()
                pulse()
                continue
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
        # where the target itself has hardly moved nothing has; a way that is no number is the longest
        if own <= UNMOVED:
            return {}
        return {prompt: min(LONGEST, way / own) if way == way else LONGEST for prompt, way in others}

    def moved(self, host: HostModel, prompts: Sequence[str], seed: int, remembered: Remembered) -> Tensor:
        """How far the answers to each prompt have moved, `[prompts]`, on paths that other runs may have gone before."""
        rows, seeds = host.encode(prompts), [number_of("outside", seed, prompt) for prompt in prompts]
        start = torch.cat([noise((1, *host.latent_shape), s, host.device) for s in seeds])

        def gone(missing: list[int]) -> Tensor:
            trail = Trail.along(host, rows[missing], start[missing], self.steps)
            both = torch.stack([trail.x, trail.directions], 1)
            return both.view(self.steps, len(missing), *both.shape[1:]).transpose(0, 1)

        def ways() -> Tensor:
            keys = [("outside", s, *rows[[i]].parts(), self.steps) for i, s in enumerate(seeds)]
            with self.unchanged():
                paths = remembered.rows(keys, gone, (self.steps, 2, *host.latent_shape)).to(host.device)
            x, directions = paths.transpose(0, 1).flatten(0, 1).unbind(1)
            sigma = schedule(host, self.steps)[:-1].repeat_interleave(len(prompts))
            trail = Trail(x, sigma, directions, len(prompts))
            return trail.apart(trail.asked(host, rows), directions)

        return saved_tensor(host, "outside", (start, *rows.parts(), self.steps), ways)


NOTHING_OUTSIDE = Outside()
