"""Requests in a row: learn, count, write, go on; a second run of the same command continues where the first stopped."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save as to_bytes
from tqdm import tqdm

from unlearn_core.delta.atomic import write_json, write_whole
from unlearn_core.delta.paths import safe_file_name
from unlearn_core.demo.recognition import CHECKPOINT
from unlearn_core.device_memory import release
from unlearn_core.errors import BadSetting, UnlearnError
from unlearn_core.standalone.model import StandaloneModel

from .changes import Learned, distance_moved, under
from .grids import captions, strip
from .measures import Sheet, measure
from .memory import peak_mb, start_peak
from .methods import Method, method
from .questions import Answer, Seen, kept_questions, look, target_questions
from .sequences import sequence, watched

LEARNING = 0.75
"""Part of a request's time that learning takes, for the bar."""


@dataclass(frozen=True)
class Plan:
    """What is to be run: one sequence, some methods, some seeds."""

    sequence: str
    methods: tuple[str, ...]
    seeds: int
    requests: int | None = None
    pictures: int = 8

    def sheet(self) -> Sheet:
        """Requests and questions. Raises `BadSetting`."""
        if not (1 <= self.seeds <= 100 and 2 <= self.pictures <= 200):
            raise BadSetting("Seeds have to be from 1 to 100 and pictures from 2 to 200.")
        # what is watched belongs to the whole sequence, so that a shorter run is a part of a longer one
        w = watched(sequence(self.sequence))
        requests = sequence(self.sequence, self.requests)
        kept = tuple(kept_questions(w, self.pictures))
        own = tuple(tuple(target_questions(r, w, 2 * self.pictures)) for r in sequence(self.sequence))
        return Sheet(requests, w, kept, own[: len(requests)], captions(w, own))


class Results:
    """The rows so far, in `results.json`; another sequence or method may share the file, other picture counts not."""

    def __init__(self, folder: Path, pictures: int):
        self.folder, self.file = folder, folder / "results.json"
        self.data = {"pictures": pictures, "rows": []}
        if self.file.is_file():
            try:
                self.data = json.loads(self.file.read_text(encoding="utf-8"))
                before = self.data["pictures"]
                self.rows = {key_of(row): row for row in self.data["rows"]}
            except (OSError, ValueError, KeyError, TypeError) as e:
                raise BadSetting(f"{self.file} is not a benchmark's result ({e}): choose another folder.") from None
            if before != pictures:
                raise BadSetting(f"{self.file} was made with --pictures {before}: use that or another folder.")
        self.rows = {key_of(row): row for row in self.data["rows"]}

    def add(self, row: dict) -> None:
        """Take in a row and write the file."""
        self.rows[key_of(row)] = row
        self.data["rows"] = list(self.rows.values())
        self.data["ended"] = [e for e in self.ended if key_of(e) != key_of(row)]
        write_json(self.file, self.data)

    @property
    def ended(self) -> list[dict]:
        """Requests that could not be learned, each the end of its run: its key, `concept` and `why`."""
        return self.data.get("ended", [])

    def end(self, row: dict) -> None:
        """Note a request that could not be learned."""
        self.data["ended"] = [*(e for e in self.ended if key_of(e) != key_of(row)), row]
        write_json(self.file, self.data)


def key_of(row: dict) -> tuple:
    """What tells a row from all others."""
    return row["method"], row["sequence"], row["seed"], row["request"]


def run(plan: Plan, folder: Path, device: str, progress: Callable[[float, str], None] | None = None) -> Results:
    """All rows that are missing. progress: gets the part that is done, 0..1, and words; None shows a bar."""
    sheet = plan.sheet()
    methods = [method(spec) for spec in plan.methods]
    results = Results(folder, plan.pictures)
    host = demo_model(device)
    if progress is not None:
        go(plan, sheet, methods, results, host, progress)
        return results
    with tqdm(total=100.0, bar_format="{percentage:3.0f}%|{bar}| {desc} {postfix}", file=sys.stderr) as bar:

        def show(part: float, words: str) -> None:
            bar.n = 100 * part
            bar.set_description_str(words, refresh=False)
            bar.refresh()

        go(plan, sheet, methods, results, host, show)
    return results


def go(
    plan: Plan,
    sheet: Sheet,
    methods: Sequence[Method],
    results: Results,
    host: StandaloneModel,
    progress: Callable[[float, str], None],
) -> None:
    """Method after method within a seed, so that every seed is soon comparable."""
    each = len(sheet.requests)
    total, done = plan.seeds * len(methods) * each, 0
    for seed in range(plan.seeds):
        base, other = None, None
        for spec, how in zip(plan.methods, methods, strict=True):
            past: list[Learned] = []
            place = results.folder / "runs" / safe_file_name(spec) / f"{plan.sequence}-{seed}"
            for number, request in enumerate(sheet.requests, 1):
                words = f"{spec} {plan.sequence} seed {seed}: {number}/{each} {request.concept}"
                file = place / f"{number:02d}-{safe_file_name(request.concept)}.safetensors"
                wanted = {"method": spec, "sequence": plan.sequence, "seed": seed, "request": number}
                progress(done / total, words)
                if key_of(wanted) in results.rows and file.is_file():
                    past.append(Learned.load(file))
                    done += 1
                    continue
                if base is None:
                    base, other = base_pictures(host, plan, sheet, seed, results.folder)
                # what counting has left in the heap is not the request's
                release(host.device)
                start_peak()
                begun = time.monotonic()

                def tick(part: float, at: int = done, words: str = words) -> None:
                    progress((at + LEARNING * part) / total, words)

                try:
                    learned = how.learn(host, request, past, seed, tick)
                except UnlearnError as e:
                    results.end(wanted | {"concept": request.concept, "why": str(e)})
                    done += each - number + 1
                    break
                seconds, memory = time.monotonic() - begun, peak_mb()
                learned.save(file)
                past.append(learned)
                row = counted(sheet, host, past, base, other, earlier(results, wanted, sheet), seed)
                with under(host, past):
                    strip(host, sheet, file.with_suffix(".png"))
                facts = {
                    "label": how.label,
                    "concept": request.concept,
                    "anchor": learned.anchor,
                    "steps": learned.steps,
                    "seconds": seconds,
                    "peak_memory_mb": memory,
                    "size_of_unet": learned.numbers() / sum(p.numel() for p in host.backbone.parameters()),
                    "norm": distance_moved(host, past),
                    "device": device_name(host),
                }
                results.add(wanted | facts | row)
                done += 1
    progress(1.0, "done")


def counted(
    sheet: Sheet,
    host: StandaloneModel,
    past: Sequence[Learned],
    base: Seen,
    other: Seen,
    at_own: Sequence[float],
    seed: int,
) -> dict:
    """Draw and count with the model after `past`."""
    with under(host, past):
        now = look(host, sheet.asked(len(past)), seed)
    replayed = frozenset(c for one in past for c in one.replayed)
    return measure(sheet, len(past), now, base, other, at_own, replayed)


def earlier(results: Results, wanted: dict, sheet: Sheet) -> list[float]:
    """Recognition of each earlier concept right after its own request, from the rows of this run."""
    rows = [results.rows[key_of(wanted | {"request": n})] for n in range(1, wanted["request"])]
    return [row["recognised"][r.concept] for row, r in zip(rows, sheet.requests, strict=False)]


def base_pictures(host: StandaloneModel, plan: Plan, sheet: Sheet, seed: int, folder: Path) -> tuple[Seen, Seen]:
    """The base model's answers to all questions, and to the kept ones with other noise; counted once and kept."""
    made = []
    whole = sheet.asked(len(sheet.requests))
    for asked, noise, name in ((whole, seed, "same"), (list(sheet.kept), seed + 500, "other")):
        file = folder / "base" / f"{plan.sequence}-{seed}-{name}-{len(asked)}.safetensors"
        if not file.is_file():
            found = look(host, asked, noise)
            answers = json.dumps([[a.obj, a.style] for a in found.answers])
            write_whole(file, to_bytes({"features": found.features.contiguous()}, {"answers": answers}))
        with safe_open(file, "pt") as f:
            answers = tuple(Answer(*pair) for pair in json.loads(f.metadata()["answers"]))
            made.append(Seen(answers, f.get_tensor("features")))
    picture = folder / "base" / f"{plan.sequence}.png"
    if not picture.is_file():
        strip(host, sheet, picture)
    return made[0], made[1]


def demo_model(device: str) -> StandaloneModel:
    """The bundled checkpoint in float32 on every device: in half precision, as it lies on a GPU, the small steps of

    methods that learn whole matrices would be rounded away.
    """
    return StandaloneModel(CHECKPOINT, device, half=False)


def device_name(host: StandaloneModel) -> str:
    """The card, or the number of CPU threads."""
    if host.device.type == "cuda":
        return torch.cuda.get_device_name(host.device)
    return f"{torch.get_num_threads()} CPU threads"
