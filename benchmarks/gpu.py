"""A prepared check for a machine with a GPU: whole requests at full size, with random weights that are made there.

One request a size, by the core's own parts: anchor, check, closed form and then training all the same, as random
weights do not answer to an edit. Written as JSON after each size, so that an early end loses little.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from unlearn_core.config import ForgetConfig
from unlearn_core.delta.atomic import write_json
from unlearn_core.delta.stack import Stack
from unlearn_core.demo.recognition import CHECKPOINT
from unlearn_core.device_memory import release
from unlearn_core.errors import BadSetting
from unlearn_core.evaluate.evaluator import Evaluator
from unlearn_core.method.anchor import choose_anchor
from unlearn_core.method.attempts import Attempt
from unlearn_core.method.checks import evaluator_for
from unlearn_core.method.closed_form import fits_in_closed_form
from unlearn_core.method.fit import Fit
from unlearn_core.method.forget import Result
from unlearn_core.method.prompt_pairs import PromptPairs
from unlearn_core.method.request import Request
from unlearn_core.method.run import Run
from unlearn_core.method.training.loop import fit_by_training
from unlearn_core.progress import StepReport
from unlearn_core.recipe import DEFAULT
from unlearn_core.standalone.model import StandaloneModel

from .memory import now_mb, peak_mb, start_peak
from .phases import bits
from .run import device_name
from .sizes import random_networks
from .speed import synchronise

SIDES = {"demo": 128, "sd15": 512, "sdxl": 1024}
"""Side of the pictures of each size, in pixels."""
FULL = ("sd15", "sdxl")
STEPS, WARM = 20, 4
"""Training steps, and how many of the first are not counted."""
FILE = "gpu.json"


@dataclass
class Stopwatch:
    """Seconds and peak memory of named phases; a phase inside another one is not part of it."""

    device: torch.device
    seconds: dict[str, float] = field(default_factory=dict)
    peaks: dict[str, float] = field(default_factory=dict)
    _open: list[str] = field(default_factory=list)
    _from: float = 0.0

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Book what a block takes."""
        self._book()
        self._open.append(name)
        try:
            yield
        finally:
            self._book()
            self._open.pop()

    def _book(self) -> None:
        synchronise(self.device)
        now = time.perf_counter()
        if self._open:
            name = self._open[-1]
            self.seconds[name] = self.seconds.get(name, 0.0) + now - self._from
            self.peaks[name] = max(self.peaks.get(name, 0.0), peak_mb() or 0.0)
        start_peak()
        self._from = time.perf_counter()


@dataclass(frozen=True)
class TimedEvaluator(Evaluator):
    """An evaluator whose looks are booked as a phase of their own, wherever they are asked for."""

    watch: Stopwatch | None = None

    def still_generated(self, number: int, settled: bool) -> bool:
        """See `Evaluator`."""
        assert self.watch
        with self.watch.phase("check"):
            return super().still_generated(number, settled)


@dataclass
class StepTimes:
    """Hears a run and keeps when each training step ended."""

    device: torch.device
    stamps: list[float] = field(default_factory=list)

    def heard(self, report: StepReport) -> None:
        """Stamp the beginning of a training and the end of each of its steps."""
        if report.phase == "training":
            synchronise(self.device)
            self.stamps.append(time.perf_counter())

    def median(self, warm: int) -> float | None:
        """Seconds a step, the first `warm` left out; None where there are too few."""
        times = [b - a for a, b in zip(self.stamps, self.stamps[1:], strict=False)][warm:]
        return statistics.median(times) if times else None


def measure(out: Path, device: str = "auto", sizes: Sequence[str] = FULL, steps: int = STEPS) -> dict[str, dict]:
    """{size: its numbers}, also written to `gpu.json` after each size."""
    found: dict[str, dict] = {}
    for size in sizes:
        if size not in SIDES:
            raise BadSetting(f"There is no size '{size}': choose from {', '.join(SIDES)}.")
        found[size] = one(size, device, steps)
        write_json(out / FILE, found)
    return found


def one(size: str, device: str, steps: int) -> dict:
    """A request with closed form, check and training at one size: what it took, and whether the model is unchanged."""
    begun = time.perf_counter()
    host = loaded(size, device)
    release(host.device)
    made, start = time.perf_counter() - begun, bits(host.backbone)
    memory = now_mb()
    watch, times = Stopwatch(host.device), StepTimes(host.device)
    config = ForgetConfig.from_flat({"concept": "banana", "anchor": "lemon", "steps": steps, "on_stop": "discard"})
    result, edit = whole_request(host, config, watch, times)
    facts = {
        "device": device_name(host),
        "torch": torch.__version__,
        "weights": "the demo model's" if size == "demo" else "random",
        "side": 8 * host.latent_shape[1],
        "dtype": str(next(host.backbone.parameters()).dtype).removeprefix("torch."),
        "making the model": made,
        "closed form alone was enough": edit is not None,
        "plan": result.report["memory"],
        "steps": result.report["steps"],
        "training loop": result.report["training_seconds"],
        "seconds a step": times.median(min(WARM, steps // 2)),
        "seconds": watch.seconds,
        "peak_mb": watch.peaks,
        "loaded_mb": memory,
        "delta_mb": sum(4 * (f.down.numel() + f.up.numel()) for f in result.delta.factors.values()) / 2**20,
        "check": result.report["check"],
        "model bits unchanged": bits(host.backbone) == start,
    }
    del host, result
    return facts | {"whole": time.perf_counter() - begun}


def loaded(size: str, device: str) -> StandaloneModel:
    """The demo model, or one of full size whose random weights are made on the device itself."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    networks = CHECKPOINT if size == "demo" else random_networks(size, device=device)
    return StandaloneModel(networks, device, SIDES[size], offload=False)


def whole_request(
    host: StandaloneModel, config: ForgetConfig, watch: Stopwatch, times: StepTimes
) -> tuple[Result, Fit | None]:
    """`forget()` with one try of the closed form, and training whatever that gave."""
    recipes = {kind: replace(recipe, tries=recipe.tries[:1]) for kind, recipe in DEFAULT.items()}
    request = Request.read(host, config, Stack(), recipes=recipes)
    with Run.open(request, host, times.heard) as run:
        with watch.phase("anchor"):
            anchor = choose_anchor(run)
            pairs = PromptPairs.make(request, anchor.name)
        evaluator = evaluator_for(run, anchor)
        assert isinstance(evaluator, Evaluator)
        evaluator = TimedEvaluator(**vars(evaluator), watch=watch)
        with watch.phase("check"):
            before = evaluator.before()
        with watch.phase("closed form"):
            edit = next(fits_in_closed_form(run, pairs, evaluator), None)
        with watch.phase("training"):
            fit = fit_by_training(run, anchor, pairs, evaluator)
        with watch.phase("check"):
            after = evaluator.after()
    with watch.phase("pictures"):
        result = Result.make(run, anchor, pairs, Attempt(fit, after), before)
    return result, edit


def lines(found: dict[str, dict]) -> list[str]:
    """The numbers for a reader, a block a size."""
    out = []
    for size, facts in found.items():
        out += [f"{size}: {facts['device']}, {facts['side']} x {facts['side']}, {facts['dtype']}"]
        for phase, seconds in facts["seconds"].items():
            out.append(f"  {phase:12} {seconds:8.1f} s  at most {facts['peak_mb'][phase]:8.0f} MB")
        step = facts["seconds a step"]
        out += [f"  a step       {step:8.3f} s  {facts['plan']}"] if step else []
        same = "the same bits" if facts["model bits unchanged"] else "NOT the same"
        out.append(f"  whole        {facts['whole']:8.1f} s  the model afterwards: {same}")
    return out
