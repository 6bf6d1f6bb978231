"""Seconds to the same forgetting: the product against the objectives that LECO, iLECO and ESD train, in one run.

All learn on the bundled demo model, on the same machine, from the same forget prompts. The mark: the bundled
classifier finds the target in at most 3 % of its pictures, and preserved objects at least 0.95 times as often as in the
base model's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from unlearn_core.demo.recognition import Question, share
from unlearn_core.errors import BadSetting
from unlearn_core.recipe import Recipe
from unlearn_core.standalone.model import StandaloneModel

from .learned import under
from .methods import method, with_settings
from .models import DEMO
from .questions import look, preserved_questions, shows, target_questions
from .sequences import Request, watched
from .task import Task, Tick, silent
from .trials import recorded

OURS = ("ours:quality=quick", "ours")
"""The product as the others are, nothing drawn or checked, and as it is.

In this order, so that nothing has been read or warmed up for the faster one.
"""
RIVALS = {
    "LECO": ("esd-lora:layers=attention", (1e-2, 3e-3, 1e-3)),
    "iLECO": ("pure-noise-lora", (1e-2, 3e-3, 1e-3)),
    "ESD": ("esd-lora:dense=1", (3e-4, 1e-4, 3e-5)),
}
"""{tool: (its objective as a method of the benchmark, learning rates that are tried, fastest first)}.

LECO: a LoRA of rank 4 on attention, negative guidance on latents that the LoRA itself has half denoised, for each
step anew. iLECO: a text anchor on pure noise. ESD: the objective that LECO took over, on the matrices of
cross-attention themselves.
"""
GONE, PRESERVED = 0.97, 0.95
"""The mark: UA, and retention."""
PICTURES, PRESERVED_PICTURES = 40, 4
"""Counted pictures of the target and of each preserved object."""
EVERY = 20
"""Steps between two counts of a rival, which are not on its clock."""
LIMIT = 3.0
"""A rival's trial ends after so many times the product's own seconds, since the product is to be that much faster.

It ends sooner when its tool has been at the mark with another learning rate in less time.
"""
HARMED = 3
"""It ends as well after so many counts in a row in which the target is gone and the rest is not preserved.

None of these objectives teaches what was lost, so it does not come back.
"""
Clock = Callable[[], float]
"""Seconds since some moment."""


@dataclass(frozen=True)
class Trial:
    """One run of one method: seconds and steps until it reached the mark or was ended, and the last count."""

    name: str
    spec: str
    seconds: float
    steps: int
    ua: float
    preserved: float

    @property
    def reached(self) -> bool:
        """Whether it is at the mark."""
        return self.ua >= GONE and self.preserved >= PRESERVED


@dataclass(frozen=True)
class Counts:
    """The questions of a race, and how many of those about preserved objects the base model answers right."""

    request: Request
    about: Sequence[Question]
    rest: Sequence[Question]
    known: int

    @classmethod
    def make(
        cls,
        host: StandaloneModel,
        request: Request,
        pictures: int = PICTURES,
        preserved_pictures: int = PRESERVED_PICTURES,
    ) -> Counts:
        """Ask the base model. Raises `BadSetting` for a concept that the classifier does not know."""
        left = watched((request,))
        rest = preserved_questions(left, preserved_pictures)
        counts = cls(request, target_questions(request, left, pictures), rest, 0)
        if share(counts.shown(host)) < 0.75:
            raise BadSetting(f"The demo model does not draw '{request.concept}' well enough to be counted.")
        return cls(request, counts.about, rest, counts.right(host))

    def ua(self, host: StandaloneModel) -> float:
        """Share of the target's pictures that are not recognised."""
        return 1 - share(self.shown(host))

    def shown(self, host: StandaloneModel) -> list[bool]:
        """Of each picture of the target, whether it is recognised."""
        return [shows(a, self.request) for a in look(host, self.about, 0).answers]

    def preserved(self, host: StandaloneModel) -> float:
        """Retention: preserved objects recognised, relative to the base model."""
        return self.right(host) / self.known

    def right(self, host: StandaloneModel) -> int:
        """Number of preserved objects' pictures that show their object."""
        return sum(a.obj == q.obj for a, q in zip(look(host, self.rest, 0).answers, self.rest, strict=True))


class TrialEnded(Exception):
    """A trial is at the mark, out of time, or without hope."""


class Monitor:
    """Looks at a model that learns every `EVERY` steps, off the clock, and ends its trial by raising `TrialEnded`.

    limit: seconds of `clock`.
    """

    def __init__(self, host: StandaloneModel, counts: Counts, limit: float, clock: Clock):
        self.host, self.counts, self.limit, self.clock = host, counts, limit, clock
        self.steps = self.harmed = 0
        self.seconds = self.ua = self.preserved = 0.0
        self._from = clock()

    def tick(self, _: float) -> None:
        """After a step."""
        self.steps += 1
        seconds = self.seconds + self.clock() - self._from
        late = seconds > self.limit
        if self.steps % EVERY and not late:
            return
        self.seconds, self.ua = seconds, self.counts.ua(self.host)
        gone = self.ua >= GONE
        self.preserved = self.counts.preserved(self.host) if gone or late else 0.0
        self.harmed = self.harmed + 1 if gone and self.preserved < PRESERVED else 0
        if late or (gone and self.preserved >= PRESERVED) or self.harmed == HARMED:
            raise TrialEnded
        self._from = self.clock()


def clock_of(device: torch.device) -> Clock:
    """Processor time on a CPU, where other programs' work does not count; elsewhere the time of day."""
    return time.process_time if device.type == "cpu" else time.perf_counter


@dataclass(frozen=True)
class Race:
    """One concept, forgotten by all. recipes: the product's constants where they are not its own."""

    host: StandaloneModel
    counts: Counts
    rivals: Mapping[str, tuple[str, Sequence[float]]] = field(default_factory=lambda: RIVALS)
    recipes: Mapping[str, Recipe] | None = None

    def run(self, told: Callable[[Trial], None] = lambda trial: None) -> list[Trial]:
        """The product's whole runs, without and with its check; then each rival's."""
        clock, trials = clock_of(self.host.device), []
        for spec in OURS:
            trials.append(self.ours(spec, clock))
            told(trials[-1])
        whole = trials[-1].seconds
        for name, (spec, rates) in self.rivals.items():
            limit = LIMIT * whole
            for rate in rates:
                monitor = Monitor(self.host, self.counts, limit, clock)
                self.learn(with_settings(spec, {"learning_rate": rate, "steps": 10**6 - 1}), monitor.tick)
                label = with_settings(spec, {"learning_rate": rate})
                trials.append(Trial(name, label, monitor.seconds, monitor.steps, monitor.ua, monitor.preserved))
                limit = monitor.seconds if trials[-1].reached else limit
                told(trials[-1])
        return trials

    def task(self, tick: Tick) -> Task:
        """The request, on the base model."""
        return Task(self.host, self.counts.request, tick=tick, recipes=self.recipes)

    def learn(self, spec: str, tick: Tick) -> None:
        """One trial, to the end that its monitor finds."""
        try:
            method(spec).learn(self.task(tick))
        except TrialEnded:
            return

    def ours(self, spec: str, clock: Clock) -> Trial:
        """The product by its spec: it ends by itself, and it is counted once, at its end."""
        began = clock()
        learned = method(spec).learn(self.task(silent))
        seconds = clock() - began
        with under(self.host, [learned]):
            ua, preserved = self.counts.ua(self.host), self.counts.preserved(self.host)
        return Trial("ours", spec, seconds, learned.steps, ua, preserved)


def table(trials: Sequence[Trial]) -> str:
    """Markdown: all trials, and each one's time against the product's without and with its check."""
    bare, whole = (t.seconds for t in trials[: len(OURS)])
    lines = ["| | method | steps | s | x ours, unchecked | x ours | UA | retention | |", "|---" * 9 + "|"]
    for t in trials:
        end = "at the mark" if t.reached else "not reached"
        times = f"{t.seconds / bare:.1f} | {t.seconds / whole:.1f}"
        lines.append(f"| {t.name} | `{t.spec}` | {t.steps} | {t.seconds:.1f} | {times} | {cells(t)} | {end} |")
    return "\n".join(lines)


def cells(trial: Trial) -> str:
    """UA and retention; the latter is counted only where the target is gone or the time is up."""
    return f"{trial.ua:.1%} | {trial.preserved:.1%}" if trial.preserved else f"{trial.ua:.1%} | -"


def record(trials: Sequence[Trial], origin: tuple[str, str], device: torch.device, file: Path) -> None:
    """Write the trials as a committed file of results. origin: commit and command."""
    rows = [
        {
            "name": t.name,
            "method": t.spec,
            "steps": t.steps,
            "seconds": round(t.seconds, 2),
            "ua": t.ua,
            "retention": t.preserved or None,
        }
        for t in trials
    ]
    clock = "seconds of processor time" if device.type == "cpu" else "seconds of the clock"
    recorded(rows, DEMO, (*origin, clock), file)
