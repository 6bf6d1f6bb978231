"""What each step of a training does, and when the check looks: a plan that is tested without a network."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from ...recipe import Recipe


@dataclass(frozen=True)
class Step:
    """number: from 1. rate: part of the learning rate, 0..1. preservation: part of the preservation penalty's weight.

    overshoot: how far past the anchor the target is steered, as a part of the way.
    """

    number: int
    rate: float
    preservation: float
    overshoot: float


class Schedule:
    """Steps until the check no longer finds the target, and then a settling phase in which what was harmed heals.

    steps: most of them. overshoot: how far the target is steered past its anchor when it is. gap: the forget loss that
    the prompts begin with.
    """

    def __init__(self, recipe: Recipe, steps: int, overshoot: float, gap: float):
        self._recipe, self._most, self._overshoot, self._gap = recipe, steps, overshoot, gap
        self._end, self._pushing = steps, False
        self._recent: deque[float] = deque(maxlen=recipe.recent)
        self._now = Step(0, 0.0, 0.0, 0.0)

    def __iter__(self) -> Iterator[Step]:
        recipe = self._recipe
        while self._now.number < self._end:
            number = self._now.number + 1
            settling = number > self._end - recipe.settle
            self._pushing = self._pushing or (number > recipe.patience and self._end == self._most)
            push = self._pushing and (recipe.overshoot_while_settling or not settling)
            rate = min(1.0, number / recipe.warm_up, (self._end - number + 1) / recipe.settle)
            preservation = recipe.settling if settling else recipe.searching
            self._now = Step(number, rate, preservation, self._overshoot if push else 0.0)
            yield self._now

    @property
    def settled(self) -> bool:
        """Whether the settling phase is over: what is left is the last question."""
        return self._now.number == self._end < self._most

    def wants_a_look(self, forget_loss: float) -> bool:
        """Take in a step's forget loss; whether the check is to look now."""
        self._recent.append(forget_loss)
        if self.settled:
            return True
        recipe, number = self._recipe, self._now.number
        late = number >= recipe.check_from and (number - recipe.check_from) % recipe.check_every == 0
        enough = recipe.fallen * (1 + self._now.overshoot) ** 2 * self._gap
        fallen = sum(self._recent) / recipe.recent <= enough
        return late and number + recipe.settle < self._end and fallen

    def looked(self, still_generated: bool) -> None:
        """The check's answer: a target that is gone begins the settling phase, one that is back ends it."""
        if self.settled == still_generated:
            self._end = self._most if self.settled else self._now.number + self._recipe.settle
