"""Requests in a row: learn, count, write, go on; a second run of the same command continues where the first stopped."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save as to_bytes
from tqdm import tqdm

from unlearn_core.delta.atomic import write_whole
from unlearn_core.delta.paths import safe_file_name
from unlearn_core.demo.recognition import STEPS, Question
from unlearn_core.device_memory import release
from unlearn_core.errors import BadSetting, UnlearnError
from unlearn_core.recipe import Recipe

from .counting import Counting, counting
from .grids import strip
from .learned import Learned, distance_moved, under
from .measures import Reference
from .memory import peak_mb, start_peak
from .methods import method
from .models import DEMO, OpenModel, opened
from .questions import Answer, Observations, Questionnaire
from .results import Results, key_of
from .row_passes import rows_counted
from .sequences import Request
from .task import Task

LEARNING = 0.75
"""Part of a request's time that learning takes, for the bar."""
Progress = Callable[[float, str], None]
"""Gets the part that is done, 0..1, and words."""


@dataclass(frozen=True)
class Plan:
    """What is to be run: one sequence, some methods, some seeds.

    requests: only the first so many; None: all. pictures: of a preserved concept; twice that of a target.
    steps: Euler steps of a counted picture. recipes: the product's constants where they are not its own.
    model: one of `models.MODELS`.
    """

    sequence: str
    methods: tuple[str, ...]
    seeds: int
    requests: int | None = None
    pictures: int = 8
    steps: int = STEPS
    recipes: Mapping[str, Recipe] | None = None
    model: str = DEMO

    @cached_property
    def counting(self) -> Counting:
        """How the model is asked and counted."""
        return counting(self.model)

    @cached_property
    def questionnaire(self) -> Questionnaire:
        """Requests and questions. Raises `BadSetting`."""
        least = 2 if self.model == DEMO else 1
        if not (1 <= self.seeds <= 100 and least <= self.pictures <= 200):
            raise BadSetting(f"Seeds have to be from 1 to 100 and pictures from {least} to 200.")
        return self.counting.questionnaire(self.sequence, self.requests, self.pictures)

    def folder(self, results: Path, spec: str, seed: int) -> Path:
        """Where one run's deltas and pictures lie."""
        return results / "runs" / safe_file_name(spec) / f"{self.sequence}-{seed}"


def run(plan: Plan, folder: Path, device: str, progress: Progress | None = None) -> Results:
    """All rows that are missing. progress: None shows a bar."""
    going = SequenceRun(plan, folder, opened(plan.model, device))
    if progress is not None:
        going.all_seeds(progress)
        return going.results
    with tqdm(total=100.0, bar_format="{percentage:3.0f}%|{bar}| {desc} {postfix}", file=sys.stderr) as bar:

        def show(part: float, words: str) -> None:
            bar.n = 100 * part
            bar.set_description_str(words, refresh=False)
            bar.refresh()

        going.all_seeds(show)
    return going.results


class SequenceRun:
    """A plan on a host, its results in a folder. Raises `BadSetting` before any work."""

    def __init__(self, plan: Plan, folder: Path, host: OpenModel):
        self.plan, self.host, self.questionnaire = plan, host, plan.questionnaire
        self.methods = {spec: method(spec) for spec in plan.methods}
        self.results = Results(folder, plan.pictures)
        self._reference: dict[int, Reference] = {}
        self._done = 0

    @property
    def total(self) -> int:
        """Requests of all runs."""
        return self.plan.seeds * len(self.methods) * len(self.questionnaire.requests)

    def all_seeds(self, progress: Progress) -> None:
        """Method after method within a seed, so that every seed is soon comparable."""
        for seed in range(self.plan.seeds):
            for spec in self.methods:
                self.one(spec, seed, progress)
        progress(1.0, "done")

    def one(self, spec: str, seed: int, progress: Progress) -> None:
        """All requests of one method and seed, up to one that cannot be learned."""
        past: list[Learned] = []
        place, each = self.plan.folder(self.results.folder, spec, seed), len(self.questionnaire.requests)
        begun = self._done
        for number, (request, *together) in self.groups():
            words = f"{spec} {self.plan.sequence} seed {seed}: {number}/{each} {request.concept}"
            file = place / f"{number:02d}-{safe_file_name(request.concept)}.safetensors"
            wanted = {"method": spec, "sequence": self.plan.sequence, "seed": seed, "request": number}
            progress(self._done / self.total, words)
            if key_of(wanted) in self.results.rows and file.is_file():
                past.append(Learned.load(file))
            else:

                def tick(part: float, words: str = words) -> None:
                    progress((self._done + LEARNING * part) / self.total, words)

                task = Task(self.host, request, tuple(past), seed, tick, self.plan.recipes, together)
                try:
                    past.append(self.learned(task, wanted, file))
                except UnlearnError as e:
                    self.results.end(wanted | {"concept": request.concept, "reason": str(e)})
                    break
            self._done = begun + number
        self._done = begun + each

    def groups(self) -> list[tuple[int, tuple[Request, ...]]]:
        """What is learned at once, and the number of requests that are done with it."""
        requests = self.questionnaire.requests
        if self.plan.counting.at_once(self.plan.sequence):
            return [(len(requests), requests)]
        return [(number, (request,)) for number, request in enumerate(requests, 1)]

    def learned(self, task: Task, wanted: dict, file: Path) -> Learned:
        """Learn one request, write it, count, draw, and add the row. Raises what the method raises."""
        host, how = self.host, self.methods[wanted["method"]]
        self.reference(task.seed)
        # What counting has left in the heap is not the request's.
        release(host.device)
        start_peak()
        begun = time.monotonic()
        with rows_counted(host.backbone) as rows:
            learned = how.learn(task)
        seconds, memory = time.monotonic() - begun, peak_mb()
        learned.save(file)
        past = [*task.past, learned]
        row = self.counted(past, wanted)
        if self.is_mark(wanted["request"]):
            with under(host, past):
                strip(host, self.questionnaire.columns, file.with_suffix(".png"))
        facts = {
            "label": how.label,
            "concept": task.request.concept,
            "seconds": seconds,
            "row_passes": rows.count,
            "peak_memory_mb": memory,
        }
        facts |= told_of(host, past)
        self.results.add(wanted | facts | row)
        return learned

    def is_mark(self, number: int) -> bool:
        """Whether everything is counted after so many requests."""
        marks = self.plan.counting.marks
        return marks is None or number in marks or number == len(self.questionnaire.requests)

    def counted(self, past: list[Learned], wanted: dict) -> dict:
        """Draw and count with the model after `past`: all, or at no mark what is left of the new target."""
        seed, done = wanted["seed"], wanted["request"]
        mark = self.is_mark(done)
        asked = self.questionnaire.asked(done) if mark else self.questionnaire.own(done)
        with under(self.host, past):
            now = self.plan.counting.look(self.host, asked, seed, self.plan.steps)
        if not mark:
            request = self.questionnaire.requests[done - 1]
            left = self.plan.counting.measurement.left(request, asked, now.answers)
            return {"ua_new": 1 - left, "recognised": {request.concept: left}}
        replayed = frozenset(c for one in past for c in one.replayed)
        return self.plan.counting.measurement(
            self.questionnaire, done, now, self.reference(seed), self.earlier(wanted), replayed
        ).row()

    def earlier(self, wanted: dict) -> list[float]:
        """Recognition of each earlier concept right after its own request, from the rows of this run."""
        if self.plan.counting.at_once(self.plan.sequence):
            return []
        rows = [self.results.rows[key_of(wanted | {"request": n})] for n in range(1, wanted["request"])]
        return [row["recognised"][r.concept] for row, r in zip(rows, self.questionnaire.requests, strict=False)]

    def reference(self, seed: int) -> Reference:
        """The base model's answers; counted once and kept in the folder."""
        if seed not in self._reference:
            whole = self.questionnaire.asked(len(self.questionnaire.requests))
            same = self.base_answers(whole, seed, f"{seed}-same")
            other = self.base_answers(list(self.questionnaire.preserved), seed + 500, f"{seed}-other")
            self._reference[seed] = Reference(same, other)
            picture = self.results.folder / "base" / f"{self.plan.sequence}.png"
            if not picture.is_file():
                strip(self.host, self.questionnaire.columns, picture)
        return self._reference[seed]

    def base_answers(self, asked: list[Question], noise: int, name: str) -> Observations:
        """What the base model draws for some questions."""
        file = self.results.folder / "base" / f"{self.plan.sequence}-{name}-{len(asked)}.safetensors"
        if not file.is_file():
            found = self.plan.counting.look_at_base(self.host, asked, noise, self.plan.steps, file.parent)
            answers = json.dumps([[a.obj, a.style] for a in found.answers])
            write_whole(file, to_bytes({"features": found.features.contiguous()}, {"answers": answers}))
        with safe_open(file, "pt") as f:
            answers = tuple(Answer(*pair) for pair in json.loads(f.metadata()["answers"]))
            return Observations(answers, f.get_tensor("features"))


def told_of(host: OpenModel, past: list[Learned]) -> dict:
    """What a row says of the last of some changes, of all of them together, and of the device."""
    last = past[-1]
    return {
        "anchor": last.anchor,
        "steps": last.steps,
        "size_of_unet": last.numbers() / sum(p.numel() for p in host.backbone.parameters()),
        "norm": distance_moved(host, past),
        "device": device_name(host),
    }


def device_name(host: OpenModel) -> str:
    """The card, or the number of CPU threads."""
    return name_of(host.device)


def name_of(device: torch.device) -> str:
    """The same of a device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
