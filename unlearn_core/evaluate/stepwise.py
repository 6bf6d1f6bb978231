"""The check that stops when it knows: pictures in small groups, each read only as far as it is not clear.

It asks what `Evaluator` asks, of the same pictures of the target and of at most as many. What was judged while a fit
was looked for is not drawn and judged again by the last look at the same fit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import log

import torch
from torch import Tensor

from ..errors import TrainingFailed, not_finite
from ..saved_work import number_of
from ..words.prompts import REMOVED, Scene, mapped
from .drawn import Drawn
from .evaluator import Answers, Evaluator, broken_pictures
from .reading import HowToRead
from .sequential import decided, enough
from .unharmed import Unharmed

LAST_LOOK = 1
"""Seed of the noise of the target's pictures before and after, beside the request's."""


@dataclass
class Look:
    """The target's pictures that one model has drawn so far, with what they were read as."""

    latents: list[Tensor] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Part of them that is read as the target; so written a margin that is no number counts as the target's."""
        return sum(not m < 0 for m in self.margins) / len(self.margins)

    def near(self, doubt: float) -> int | None:
        """The number of the first that is read as the target, or nearly; None where none is."""
        return next((i for i, m in enumerate(self.margins) if is_near(m, doubt)), None)


def is_near(margin: float, doubt: float) -> bool:
    """Whether a picture is read as the target, or nearly; so written what is no number is."""
    return not margin <= -log(doubt)


@dataclass(frozen=True, kw_only=True)
class StepwiseEvaluator(Evaluator):
    """`Evaluator` by sequential tests (see `sequential`).

    weights: tells by a hash which change is on the layers. led: which part of the way to the anchor it leads the
    target's prompts. unharmed: the pictures of what is preserved.
    """

    unharmed: Unharmed
    weights: Callable[[], str]
    led: Callable[[], float]
    _looks: dict[tuple[str, int], Look] = field(default_factory=dict)
    _shown_last: dict[int, int] = field(default_factory=dict)

    def before(self) -> Answers | None:
        """The model before the request: the pictures that are shown. Raises `TrainingFailed` where it is broken."""
        self.job.start("before", 2, "checking the model as it is")
        look = Look()
        self.go_on(look, LAST_LOOK, self.recipe.shown // 2, changed=False)
        self.job.tick()
        answers = self.answers(look, self.unharmed.before())
        self.job.tick()
        if answers.not_finite:
            raise TrainingFailed(not_finite("draws", "in the check's pictures"))
        return answers

    def after(self) -> Answers | None:
        """The model after it, as far as the verdict needs."""
        self.job.start("after", 2, "checking the result")
        look = self.look_of(LAST_LOOK)
        weak = self.led() < self.recipe.led_enough
        while not self.ended(look, weak):
            self.go_on(look, LAST_LOOK, self.enough(look, weak))
        self.job.tick()
        answers = self.answers(look, self.unharmed.after())
        self.job.tick()
        return replace(answers, outside=self.outside.changes(self.sampler.host, self.reader.seed, self.job.pulse))

    def still_generated(self, number: int, settled: bool) -> bool:
        """The question while the method is at work: is the target still there?

        While it is searched for, near misses count; when all has settled, the share counts that the verdict allows.
        The closed form is asked with the last look's noise, which goes on from there; training, which is asked many
        times, with other noise each time. A picture that has shown the target before is asked for first.
        """
        seed, doubt = 1000 + 2 * number if self.job.phase == "training" else LAST_LOOK, self.recipe.doubt
        look = self.look_of(seed)
        if settled:
            while not self.ended(look):
                self.go_on(look, seed, self.enough(look))
            return look.share > self.recipe.forgotten_share
        last = self._shown_last.get(seed, -1)
        if last >= len(look.margins) and is_near(self.judged([last], seed)[1][0], doubt):
            return True
        while look.near(doubt) is None and not self.ended(look):
            self.go_on(look, seed, self.enough(look))
        if (near := look.near(doubt)) is not None:
            self._shown_last[seed] = near
        return near is not None

    def answers(self, look: Look, preserved: dict[str, float]) -> Answers:
        """What was seen, with the pictures to show."""
        half = self.recipe.shown // 2
        targets = torch.cat(look.latents)
        others, beside = self.unharmed.shown(half)
        latents = torch.cat([targets[:half], *others])
        scenes = [*self.asked[: len(targets[:half])], *beside]
        broken = broken_pictures(targets) + self.unharmed.broken
        return Answers(look.share, preserved, latents, tuple(s.prompt for s in scenes), broken)

    @property
    def asked(self) -> list[Scene]:
        """The scenes of all pictures of the target that may be drawn."""
        return list(self.questions.targets) * self.recipe.rounds

    def look_of(self, seed: int) -> Look:
        """What has been seen of the model as it is now, with noise of this seed; older looks are let go."""
        key = self.weights(), seed
        if key not in self._looks:
            self._looks.clear()
            self._looks[key] = Look()
        return self._looks[key]

    def ended(self, look: Look, weak: bool = False) -> bool:
        """Whether no more pictures have to be looked at. weak: see `decided`."""
        return len(look.margins) >= len(self.asked) or decided(look.margins, self.recipe, weak)

    def enough(self, look: Look, weak: bool = False) -> int:
        """How many more pictures are looked at together. weak: see `decided`."""
        return enough(look.margins, len(self.asked) - len(look.margins), self.recipe, weak)

    def go_on(self, look: Look, seed: int, count: int, changed: bool = True) -> None:
        """Draw and read so many more pictures of the target. changed: whether the model was."""
        first = len(look.margins)
        drawn, margins = self.judged(range(first, min(first + count, len(self.asked))), seed, changed)
        look.margins += margins
        look.latents.append(drawn)
        self.job.pulse(torch.cat(look.latents)[: self.recipe.shown])

    def judged(self, numbers: Sequence[int], seed: int, changed: bool = True) -> tuple[Tensor, list[float]]:
        """(pictures of the target by consecutive numbers, `[b, c, h, w]`, what each is read as).

        changed: whether the model was.
        """
        scenes = [self.asked[i] for i in numbers]
        kind, host = self.questions.kind, self.reader.host
        own = host.encode([s.prompt for s in scenes])
        drawn = self.sampler.draw(own, self.reader.seed + seed, first=numbers[0])
        others = dict.fromkeys([self.questions.anchor, REMOVED])
        rivals = [[mapped(s, a, kind, self.reader.words).prompt for s in scenes] for a in others]
        seeds = [number_of("target", self.reader.seed, seed, i) for i in numbers]
        with self.teacher():
            encoded = [host.encode([s.prompt for s in scenes]), *map(host.encode, rivals)]
            margins = Drawn(self.reader, drawn, encoded, seeds).margins(HowToRead.by(self.recipe, changed))
        return drawn, margins
