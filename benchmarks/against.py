"""Seconds to the same forgetting: the product against the objectives that LECO, iLECO and ESD train, in one run.

All learn on the bundled demo model, on the same machine, from the same forget sentences. The mark: the bundled
classifier finds the target in at most 3 % of its pictures, and kept objects at least 0.95 times as often as in the
base model's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from unlearn_core.demo.recognition import Question, share
from unlearn_core.errors import BadSetting
from unlearn_core.standalone.model import StandaloneModel

from .baselines.student import Tick
from .changes import under
from .methods import method, with_settings
from .questions import kept_questions, look, shows, target_questions
from .run import demo_model
from .sequences import Request, Watched, watched

OURS = ("ours:check=no", "ours")
"""The product as the others are, nothing drawn, read or promised, and as it is. In this order, so that nothing has been

read or warmed up for the faster one.
"""
RIVALS = {
    "LECO": ("esd-lora:layers=attention", (1e-2, 3e-3, 1e-3)),
    "iLECO": ("pure-noise-lora", (1e-2, 3e-3, 1e-3)),
    "ESD": ("esd-lora:dense=1", (3e-4, 1e-4, 3e-5)),
}
"""{tool: (its objective as a method of the benchmark, learning rates that are tried, fastest first)}.

LECO: a LoRA of rank 4 on attention, negative guidance on latents that the student itself has half denoised, for each
step anew. iLECO: a text anchor on pure noise. ESD: the objective that LECO took over, on the matrices of
cross-attention themselves.
"""
GONE, KEPT = 0.97, 0.95
"""The mark: UA, and retention."""
PICTURES, KEPT_PICTURES = 40, 4
"""Counted pictures of the target and of each kept object."""
EVERY = 20
"""Steps between two counts of a rival, which are not on its clock."""
LIMIT = 3.0
"""A rival's trial ends after so many times the product's own seconds, since the product is to be that much faster, or

when its tool has been at the mark sooner with another learning rate.
"""
HARMED = 3
"""It ends as well after so many counts in a row in which the target is gone and the rest is not kept: none of these

objectives teaches what was lost, so it does not come back.
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
    kept: float

    @property
    def reached(self) -> bool:
        """Whether it is at the mark."""
        return self.ua >= GONE and self.kept >= KEPT


@dataclass(frozen=True)
class Paper:
    """The questions, and how many of the kept ones the base model answers right."""

    request: Request
    about: Sequence[Question]
    rest: Sequence[Question]
    known: int

    @classmethod
    def make(cls, host: StandaloneModel, request: Request) -> Paper:
        """Ask the base model. Raises `BadSetting` for a concept that the classifier does not know."""
        left: Watched = watched((request,))
        rest = kept_questions(left, KEPT_PICTURES)
        paper = cls(request, target_questions(request, left, PICTURES), rest, 0)
        if share(paper.shown(host)) < 0.75:
            raise BadSetting(f"The demo model does not draw '{request.concept}' well enough to be counted.")
        return cls(request, paper.about, rest, paper.right(host))

    def ua(self, host: StandaloneModel) -> float:
        """Share of the target's pictures that are not recognised."""
        return 1 - share(self.shown(host))

    def shown(self, host: StandaloneModel) -> list[bool]:
        """Of each picture of the target, whether it is recognised."""
        return [shows(a, self.request) for a in look(host, self.about, 0).answers]

    def kept(self, host: StandaloneModel) -> float:
        """Retention: kept objects recognised, relative to the base model."""
        return self.right(host) / self.known

    def right(self, host: StandaloneModel) -> int:
        """Number of kept pictures that show their object."""
        return sum(a.obj == q.obj for a, q in zip(look(host, self.rest, 0).answers, self.rest, strict=True))


class Over(Exception):
    """A trial is over: at the mark, out of time, or without hope."""


class Watch:
    """Looks at a student every `EVERY` steps, off the clock, and ends its trial by raising `Over`.

    limit: seconds of `clock`.
    """

    def __init__(self, host: StandaloneModel, paper: Paper, limit: float, clock: Clock):
        self.host, self.paper, self.limit, self.clock = host, paper, limit, clock
        self.steps = self.harmed = 0
        self.seconds = self.ua = self.kept = 0.0
        self._from = clock()

    def tick(self, _: float) -> None:
        """After a step."""
        self.steps += 1
        seconds = self.seconds + self.clock() - self._from
        late = seconds > self.limit
        if self.steps % EVERY and not late:
            return
        self.seconds, self.ua = seconds, self.paper.ua(self.host)
        gone = self.ua >= GONE
        self.kept = self.paper.kept(self.host) if gone or late else 0.0
        self.harmed = self.harmed + 1 if gone and self.kept < KEPT else 0
        if late or (gone and self.kept >= KEPT) or self.harmed == HARMED:
            raise Over
        self._from = self.clock()


def clock_of(device: torch.device) -> Clock:
    """Processor time on a CPU, where other programs' work does not count; elsewhere the time of day."""
    return time.process_time if device.type == "cpu" else time.perf_counter


def measure(device: str, concept: str, told: Callable[[Trial], None] = lambda trial: None) -> list[Trial]:
    """The product's whole runs, without and with its judge and the pictures that go with it; then each rival's."""
    host, request = demo_model(device), Request(concept)
    paper, clock = Paper.make(host, request), clock_of(host.device)
    trials = []
    for spec in OURS:
        trials.append(ours(spec, host, request, paper, clock))
        told(trials[-1])
    whole = trials[-1].seconds
    for name, (spec, rates) in RIVALS.items():
        limit = LIMIT * whole
        for rate in rates:
            tried = with_settings(spec, {"learning_rate": rate, "steps": 10**6 - 1})
            watch = Watch(host, paper, limit, clock)
            run(tried, host, request, watch.tick)
            label = with_settings(spec, {"learning_rate": rate})
            trials.append(Trial(name, label, watch.seconds, watch.steps, watch.ua, watch.kept))
            limit = watch.seconds if trials[-1].reached else limit
            told(trials[-1])
    return trials


def run(spec: str, host: StandaloneModel, request: Request, tick: Tick) -> None:
    """One trial, to the end that the watch finds."""
    try:
        method(spec).learn(host, request, [], 0, tick)
    except Over:
        return


def ours(spec: str, host: StandaloneModel, request: Request, paper: Paper, clock: Clock) -> Trial:
    """The product by its spec: it ends by itself, and it is counted once, at its end."""
    began = clock()
    learned = method(spec).learn(host, request, [], 0, lambda part: None)
    seconds = clock() - began
    with under(host, [learned]):
        return Trial("ours", spec, seconds, learned.steps, paper.ua(host), paper.kept(host))


def table(trials: Sequence[Trial]) -> str:
    """Markdown: all trials, and each one's time against the product's without and with its judge."""
    bare, whole = (t.seconds for t in trials[: len(OURS)])
    lines = ["| | method | steps | s | x ours, unchecked | x ours | UA | retention | |", "|---" * 9 + "|"]
    for t in trials:
        end = "at the mark" if t.reached else "not reached"
        times = f"{t.seconds / bare:.1f} | {t.seconds / whole:.1f}"
        lines.append(f"| {t.name} | `{t.spec}` | {t.steps} | {t.seconds:.1f} | {times} | {cells(t)} | {end} |")
    return "\n".join(lines)


def cells(trial: Trial) -> str:
    """UA and retention; the latter is counted only where the target is gone or the time is up."""
    return f"{trial.ua:.1%} | {trial.kept:.1%}" if trial.kept else f"{trial.ua:.1%} | -"
