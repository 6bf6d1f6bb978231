"""What a quick run looks at in place of pictures: a few scores, before and after."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import TrainingFailed, not_finite
from ..host import HostModel
from ..recipe import Recipe
from .evaluator import NoCheck, Teacher
from .trail import Trail

SIDE = 24
"""Largest side of the latents: a few whole pictures of SDXL would take longer than a quick run."""
DOUBT = 2.0
"""An answer counts as the target's own until it is this many times nearer to the anchor's (as squared distances)."""


@dataclass
class Glance(NoCheck):
    """Whether the answers to the target's prompts have left their own place for the anchor's.

    own, goal: prompts of the target, and the same with the anchor in its place. teacher: a context with the base model.
    near: after the change, the part of the answers that are not clearly nearer to the anchor's than to the target's
    own (see `DOUBT`); None before.
    """

    host: HostModel
    own: tuple[str, ...]
    goal: tuple[str, ...]
    teacher: Teacher
    recipe: Recipe
    seed: int
    near: float | None = None
    _trail: Trail | None = field(default=None, repr=False)
    _anchor: Tensor | None = field(default=None, repr=False)

    def before(self) -> None:
        """The way of the target and of the anchor. Raises `TrainingFailed` where the model is broken."""
        own, goal = (self.host.encode(prompts) for prompts in (self.own, self.goal))
        side = max(SIDE, getattr(self.host, "least_side", 0))
        with self.teacher():
            self._trail = Trail.draw(self.host, own, self.recipe.glance_steps, self.seed, side)
            self._anchor = self._trail.asked(self.host, goal)
        if not all(torch.isfinite(d).all() for d in (self._trail.directions, self._anchor)):
            raise TrainingFailed(not_finite("answers with"))

    def after(self) -> None:
        """How many answers are still the target's own; one that is no number counts as such."""
        assert self._trail is not None and self._anchor is not None
        now = self._trail.asked(self.host, self.host.encode(self.own))

        def distance(other: Tensor) -> Tensor:
            return (now - other).pow(2).flatten(1).mean(1)

        self.near = float((~(distance(self._trail.directions) >= DOUBT * distance(self._anchor))).float().mean())
