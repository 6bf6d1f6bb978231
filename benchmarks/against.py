"""Seconds to the same forgetting: the product against the objectives that LECO, iLECO and ESD train, in one run.

All learn on the bundled demo model, on the same machine, from the same forget prompts. The mark: the bundled
classifier finds the target in at most 3 % of its pictures, and preserved objects at least 0.95 times as often as in the
base model's.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from unlearn_core.delta.atomic import write_json
from unlearn_core.demo.recognition import CHECKPOINT, Question, share
from unlearn_core.errors import BadSetting
from unlearn_core.recipe import Recipe
from unlearn_core.standalone.model import StandaloneModel, pick_device

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
LIMIT = 25.0
"""A rival's trial ends after so many seconds."""
HARMED = 3
"""It ends as well after so many counts in a row in which the target is gone and the rest is not preserved.

None of these objectives teaches what was lost, so it does not come back.
"""
Clock = Callable[[], float]
"""Seconds since some moment."""


@dataclass(frozen=True)
class Count:
    """What one look at the pictures found. preserved: retention, None where the target was still there."""

    steps: int
    ua: float
    preserved: float | None = None

    @property
    def reached(self) -> bool:
        """Whether it is at the mark."""
        return self.ua >= GONE and (self.preserved or 0.0) >= PRESERVED


@dataclass(frozen=True)
class Trial:
    """One run of one method: its steps and seconds until it was ended, and all counts on the way."""

    name: str
    spec: str
    steps: int
    seconds: float
    counts: tuple[Count, ...]

    @property
    def marks(self) -> list[int]:
        """Numbers of steps after which it was at the mark."""
        return [c.steps for c in self.counts if c.reached]

    def row(self, concept: str) -> dict:
        """For a file of results."""
        last = asdict(self.counts[-1]) if self.counts else {}
        ends = {"ua": last.get("ua"), "retention": last.get("preserved")}
        ran = {"steps": self.steps, "seconds": round(self.seconds, 2), "at_mark": self.marks}
        return {"concept": concept, "name": self.name, "method": self.spec, **ran, **ends}


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
    """A trial is out of time, or without hope."""


class Monitor:
    """Looks at a model that learns every `EVERY` steps, off the clock, and ends its trial by raising `TrialEnded`.

    It does not end it at the mark: who looks at nothing does not know that he is there. limit: seconds of `clock`.
    """

    def __init__(self, host: StandaloneModel, counts: Counts, limit: float, clock: Clock):
        self.host, self.counts, self.limit, self.clock = host, counts, limit, clock
        self.steps, self.seconds = 0, 0.0
        self.found: list[Count] = []
        self._from = clock()

    def tick(self, _: float) -> None:
        """After a step."""
        self.steps += 1
        seconds = self.seconds + self.clock() - self._from
        late = seconds > self.limit
        if self.steps % EVERY and not late:
            return
        self.seconds = seconds
        if self.steps % EVERY == 0:
            ua = self.counts.ua(self.host)
            self.found.append(Count(self.steps, ua, self.counts.preserved(self.host) if ua >= GONE else None))
        last = self.found[-HARMED:]
        harmed = len(last) == HARMED and all(c.preserved is not None and c.preserved < PRESERVED for c in last)
        if late or harmed:
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
        for name, (spec, rates) in self.rivals.items():
            for rate in rates:
                monitor = Monitor(self.host, self.counts, LIMIT, clock)
                self.learn(with_settings(spec, {"learning_rate": rate, "steps": 10**6 - 1}), monitor.tick)
                label = with_settings(spec, {"learning_rate": rate})
                trials.append(Trial(name, label, monitor.steps, monitor.seconds, tuple(monitor.found)))
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
        """The product by its spec: it ends by itself, and it is counted once, at its end.

        It finds nothing that earlier requests have kept on the disk.
        """
        kept = self.host.cache_folder
        with TemporaryDirectory() as folder:
            self.host.cache_folder = Path(folder)
            try:
                began = clock()
                learned = method(spec).learn(self.task(silent))
                seconds = clock() - began
            finally:
                self.host.cache_folder = kept
        with under(self.host, [learned]):
            count = Count(learned.steps, self.counts.ua(self.host), self.counts.preserved(self.host))
        return Trial("ours", spec, learned.steps, seconds, (count,))


def raced(host: StandaloneModel, concept: str, folder: Path, told: Callable[[dict], None]) -> list[dict]:
    """The rows of one concept, as they lie in its file, which is made where it is not there. told: hears each row."""
    file = folder / f"{concept}.json"
    if not file.is_file():
        trials = Race(host, Counts.make(host, Request(concept))).run(lambda trial: told(trial.row(concept)))
        write_json(file, [trial.row(concept) for trial in trials])
    return json.loads(file.read_text(encoding="utf-8"))


def raced_on(device: str, half: bool) -> StandaloneModel:
    """The demo model. half: in half precision, where a CPU computes in it.

    Its weights stay in float32 then, so that the small steps of methods that learn whole matrices are not rounded away,
    as they would be on a GPU.
    """
    return StandaloneModel(CHECKPOINT, device, half=half and pick_device(device).type == "cpu")


def record(rows: Sequence[dict], origin: tuple[str, str], host: StandaloneModel, file: Path) -> None:
    """Write the rows of all concepts as a committed file of results. origin: commit and command."""
    clock = "seconds of processor time" if host.device.type == "cpu" else "seconds of the clock"
    recorded(rows, DEMO, (*origin, f"{host.computes_in}; {clock}"), file)
