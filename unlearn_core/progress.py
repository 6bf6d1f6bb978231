"""One job's progress: phases with their share of the whole, time left, and the artist's wish to stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from .errors import Cancelled


@dataclass(frozen=True)
class StepReport:
    """One message of a running job."""

    phase: str
    """One of "sampling", "choosing" (the anchor), "before" (the check's first look), "editing" (the closed form), where
    that is not enough "replay" and "training", and "after" (the check's last look); "balancing" where a stack is."""
    done: int
    total: int
    fraction: float
    """Of the whole job, 0..1, never falling."""
    seconds: float
    seconds_left: float | None
    losses: dict[str, float] = field(default_factory=dict)
    message: str = ""
    latents: Tensor | None = None
    """What the model generates of the target now, `[n, c, h, w]`, each time that the check looks."""


Progress = Callable[[StepReport], bool | None]
"""Called after each unit of work. Returning True asks for a stop; raising ends the run at once."""


LEAST = 0.02
"""Part of the work that has to be done before anything can be said of the rest."""
CORRECTION = 1.5
"""An estimate that is too low by this factor is given up; less is the usual unevenness of work."""


PATIENCE = 10
"""Seconds for which an estimate may stand still: by then slower work is a fact, and not an unevenness."""


class Estimate:
    """Seconds that are left of work whose units take about equally long. They fall, and rise only by new facts."""

    def __init__(self) -> None:
        self._left: float | None = None
        self._since = 0.0

    def left(self, done: float, seconds: float, counted: bool) -> float | None:
        """The estimate, or None while too little is known.

        done: 0..1 of the work, after so many seconds. counted: a unit has just ended; before that nothing is known that
        would make it longer.
        """
        if done >= 1:
            self._left = 0.0
        elif done > LEAST:
            now = seconds * (1 - done) / done
            slower = counted and self._left and (now > CORRECTION * self._left or seconds > self._since + PATIENCE)
            if self._left is None or now < self._left or slower:
                self._left, self._since = now, seconds
        return self._left


PULSES = 24
"""Signs of life that a tick usually takes: between two ticks the bar moves by them."""
PLANNED = 0.95
"""Part of the bar that planned work fills; where the last look is not content there is more to do."""


class Tracker:
    """Turns ticks of work into `StepReport`s.

    plan: {phase: expected number of ticks x expected cost of a tick}, in the order in which they run.
    report: the host's callback, or None. between: called before each phase. later: cost of work that is known to follow
    what is planned, and extends the plan when it begins.
    """

    def __init__(
        self,
        plan: dict[str, float],
        report: Progress | None,
        between: Callable[[], None] = lambda: None,
        later: float = 0.0,
    ):
        self._report, self._between = report, between
        known = sum(plan.values())
        self._planned = PLANNED * (known / (known + later) if later else 1.0)
        self._begin = time.monotonic()
        self._fraction = 0.0
        self.stopping = False
        self.phase, self._done, self._total, self._pulses = next(iter(plan)), 0, 1, 0
        self._costs: dict[str, tuple[float, float]] = {}
        self._from = 0.0, 0.0
        self._estimate = Estimate()
        self._spared, self._remark = 0.0, ""
        self._whole = self._lay(plan, 0.0)

    def extend(self, plan: dict[str, float], planned: float = 0.0) -> None:
        """There is more to do than was planned: from now on these phases. The bar goes on from where it is.

        planned: the part of the bar that they fill at most, where it is not the same as before.
        """
        now = self._now()
        self._planned = planned or self._planned
        self._from = self._fraction, now
        self._estimate = Estimate()
        self._whole = self._lay(plan, now)

    def _lay(self, plan: dict[str, float], at: float) -> float:
        """Phases one after the other, each (cost before it, its own); returns the cost of all."""
        for phase, cost in plan.items():
            self._costs[phase] = at, cost
            at += cost
        return at

    def _now(self) -> float:
        before, cost = self._costs[self.phase]
        begun = min(0.95, self._pulses / PULSES) if self._done < self._total else 0.0
        return before + cost * (self._done + begun) / self._total

    @property
    def seconds(self) -> float:
        """What the job has taken, and what it would have taken for the work that an earlier run had finished."""
        return time.monotonic() - self._begin + self._spared

    def spare(self, seconds: float, remark: str = "") -> None:
        """Work of so many seconds need not be done again: estimates count it as done in that time.

        remark: how it goes on, said beside what each phase does.
        """
        self._spared += seconds
        if remark or not self._remark:
            self._remark = f"; {remark or 'going on with a run that was stopped'}"

    def start(self, phase: str, total: int, message: str = "") -> None:
        """Enter a phase of `total` ticks."""
        self._between()
        self.phase, self._done, self._total, self._pulses = phase, 0, max(1, total), 0
        self._send(message=message + self._remark if message else "", counted=True)

    def say(self, message: str) -> None:
        """Tell what is done now within a phase."""
        self._send(message=message + self._remark)

    def tick(self, losses: dict[str, float] | None = None) -> None:
        """One unit of work is done. Outside training a wish to stop raises `Cancelled` here."""
        self._done, self._pulses = min(self._done + 1, self._total), 0
        self._send(losses or {}, counted=True)
        self._obey()

    def pulse(self, latents: Tensor | None = None) -> None:
        """A sign of life between two units of work, so that a wish to stop is heard; latents: see `StepReport`."""
        self._pulses += 1
        self._send(latents=latents)
        self._obey()

    def finish(self) -> None:
        """All is done, also where less had to be done than was planned; a wish to stop comes too late."""
        stopping = self.stopping
        self._fraction, self._done, self._whole = 1.0, self._total, self._now()
        self._send(counted=True)
        self.stopping = stopping

    def _obey(self) -> None:
        if self.stopping and self.phase != "training":
            raise Cancelled("Stopped before anything was learned; the model is as it was.")

    def _send(
        self,
        losses: dict[str, float] | None = None,
        message: str = "",
        latents: Tensor | None = None,
        counted: bool = False,
    ) -> None:
        now, (at, begun) = self._now(), self._from
        done = (now - begun) / (self._whole - begun) if self._whole > begun else 1.0
        self._fraction = max(self._fraction, min(self._planned, at + (1 - at) * self._planned * done))
        if self._report is None:
            return
        seconds = self.seconds
        left = self._estimate.left(now / self._whole, seconds, counted)
        ticks, total = self._done, self._total
        if self._report(
            StepReport(self.phase, ticks, total, self._fraction, seconds, left, losses or {}, message, latents)
        ):
            self.stopping = True
