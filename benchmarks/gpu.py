"""A prepared check for a machine with a GPU: whole requests at full size, with random weights that are made there.

One request a size, by the core's own parts: anchor, check, closed form and then training all the same, as random
weights do not answer to an edit. Written as JSON after each size, so that an early end loses little.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from unlearn_core.config import ForgetConfig
from unlearn_core.delta.atomic import write_json
from unlearn_core.delta.stack import Stack
from unlearn_core.demo.recognition import CHECKPOINT
from unlearn_core.device_memory import free_bytes, release, weight_bytes
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
from unlearn_core.standalone.model import StandaloneModel, half_type, pick_device
from unlearn_core.standalone.networks import Networks

from .memory import now_mb, peak_mb, start_peak
from .phases import bits
from .row_passes import Rows, rows_counted
from .run import device_name
from .sizes import random_networks
from .speed import synchronise

SIDES = {"demo": 128, "sd15": 512, "sdxl": 1024}
"""Side of the pictures of each size, in pixels."""
FULL = ("sd15", "sdxl")
CARDS = {"sd15": 6.0, "sdxl": 12.0}
"""Smallest cards of artists that a size has to run on, in GB; a larger one is filled up to that."""
STEPS, WARM = 20, 4
"""Training steps, and how many of the first are not counted."""
FILE = "gpu.json"


@dataclass
class Stopwatch:
    """Seconds, row-passes and peak memory of named phases; a phase inside another one is not part of it.

    filled: MB that belong to no phase. passes: counts the rows, see `rows_counted`.
    """

    device: torch.device
    filled: float = 0.0
    passes: Rows = field(default_factory=Rows)
    seconds: dict[str, float] = field(default_factory=dict)
    peaks: dict[str, float] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    _open: list[str] = field(default_factory=list)
    _from: tuple[float, int] = (0.0, 0)

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
        now, rows = time.perf_counter(), self.passes.count
        if self._open:
            name = self._open[-1]
            self.seconds[name] = self.seconds.get(name, 0.0) + now - self._from[0]
            self.rows[name] = self.rows.get(name, 0) + rows - self._from[1]
            self.peaks[name] = max(self.peaks.get(name, 0.0), (peak_mb() or 0.0) - self.filled)
        start_peak()
        self._from = time.perf_counter(), rows


@dataclass
class TimedEvaluator:
    """An evaluator whose looks are booked as a phase of their own, wherever they are asked for."""

    evaluator: Evaluator
    watch: Stopwatch

    def __getattr__(self, name: str) -> Any:
        return getattr(self.evaluator, name)

    def still_generated(self, number: int, settled: bool) -> bool:
        """See `Evaluator`."""
        with self.watch.phase("check"):
            return self.evaluator.still_generated(number, settled)


@dataclass
class StepTimes:
    """Hears a run, tells of each of its phases, and keeps when each training step ended."""

    device: torch.device
    stamps: list[float] = field(default_factory=list)
    phase: str = ""
    begun: float = field(default_factory=time.perf_counter)

    def heard(self, report: StepReport) -> None:
        """Stamp the beginning of a training and the end of each of its steps."""
        if report.phase != self.phase:
            self.phase = report.phase
            print(f"{time.perf_counter() - self.begun:6.1f} s: {report.message}", file=sys.stderr, flush=True)
        if report.phase == "training":
            synchronise(self.device)
            self.stamps.append(time.perf_counter())

    def median(self, warm: int) -> float | None:
        """Seconds a step, the first `warm` left out; None where there are too few."""
        times = [b - a for a, b in zip(self.stamps, self.stamps[1:], strict=False)][warm:]
        return statistics.median(times) if times else None


def measure(
    out: Path, device: str = "auto", sizes: Sequence[str] = FULL, steps: int = STEPS, whole_card: bool = False
) -> dict[str, dict]:
    """{size: its numbers}, also written to `gpu.json` after each size. whole_card: not as on the smallest cards."""
    found: dict[str, dict] = {}
    for size in sizes:
        if size not in SIDES:
            raise BadSetting(f"There is no size '{size}': choose from {', '.join(SIDES)}.")
        found[size] = one(size, device, steps, None if whole_card else CARDS.get(size))
        write_json(out / FILE, found)
    return found


@contextmanager
def small_card(device: torch.device, gb: float) -> Iterator[float]:
    """Fill a card until `gb` GB of it are free or this program's own; gives the MB that fill it."""
    allocated = torch.cuda.memory_allocated(device)
    size = int((free_bytes(device) or 0) + allocated - gb * 1e9)
    if size <= 0:
        yield 0.0
        return
    filling = torch.empty(size, dtype=torch.uint8, device=device)
    yield size / 2**20
    del filling


def one(size: str, device: str, steps: int, card: float | None = None) -> dict:
    """A request with closed form, check and training at one size: what it took, and whether the model is unchanged.

    card: GB of a card that it has to run on, None for all that there are.
    """
    begun, place = time.perf_counter(), pick_device(device)
    networks = made(size, place)
    release(place)
    facts = {"card": card, "making the model": time.perf_counter() - begun}
    with small_card(place, card) if card and place.type == "cuda" else nullcontext(0.0) as filled:
        host = StandaloneModel(networks, place, SIDES[size], offload=offloaded(networks, card))
        facts |= request_of(host, steps, filled)
    return facts | {"weights": "the demo model's" if size == "demo" else "random", "whole": time.perf_counter() - begun}


def request_of(host: StandaloneModel, steps: int, filled: float) -> dict:
    """The request on a model. filled: MB of the device that are not the request's."""
    start, memory = bits(host.backbone), (now_mb() or 0.0) - filled
    config = ForgetConfig.from_flat({"concept": "banana", "anchor": "lemon", "steps": steps, "on_stop": "discard"})
    with rows_counted(host.backbone) as rows:
        watch, times = Stopwatch(host.device, filled, rows), StepTimes(host.device)
        result, edit = whole_request(host, config, watch, times)
    return {
        "device": device_name(host),
        "torch": torch.__version__,
        "text and pictures off the card": getattr(host, "offload", None),
        "side": 8 * host.latent_shape[1],
        "dtype": str(next(host.backbone.parameters()).dtype).removeprefix("torch."),
        "closed form alone was enough": edit is not None,
        "plan": result.report["memory"],
        "steps": result.report["steps"],
        "training loop": result.report["training_seconds"],
        "seconds a step": times.median(min(WARM, steps // 2)),
        "seconds": watch.seconds,
        "rows": watch.rows,
        "peak_mb": watch.peaks,
        "loaded_mb": memory,
        "delta_mb": sum(4 * (f.down.numel() + f.up.numel()) for f in result.delta.factors.values()) / 2**20,
        "check": result.report["check"],
        "model bits unchanged": bits(host.backbone) == start,
    }


def made(size: str, device: torch.device) -> Path | Networks:
    """The demo model's file, or networks of full size as a file would be read: the denoiser in half precision.

    Their random weights are made on the device: on a CPU that takes minutes.
    """
    if size == "demo":
        return CHECKPOINT
    networks = random_networks(size, device=device)
    nn.Module.to(networks.unet, half_type(device) if device.type == "cuda" else None)
    for module in companions(networks):
        module.to("cpu")
    return networks


def companions(networks: Networks) -> list[nn.Module]:
    """Text encoders and autoencoder."""
    return [*(e.model for e in networks.encoders), networks.vae]


def offloaded(networks: Path | Networks, card: float | None) -> bool | None:
    """Whether a card of so many GB is small for networks, as for those of a file; None for the model's own answer."""
    if card is None or isinstance(networks, Path):
        return None
    return 2 * weight_bytes([networks.unet, *companions(networks)]) > card * 1e9


def whole_request(
    host: StandaloneModel, config: ForgetConfig, watch: Stopwatch, times: StepTimes
) -> tuple[Result, Fit | None]:
    """`forget()` with one try of the closed form, and training whatever that gave.

    With few pictures to ask for: no picture of random weights decides anything, so all of them are drawn.
    """
    recipes = {
        kind: replace(recipe, tries=recipe.tries[:1], open_tries=(), held_out_prompts=8, rounds=1)
        for kind, recipe in DEFAULT.items()
    }
    request = Request.read(host, config, Stack(), recipes=recipes)
    with Run.open(request, host, times.heard) as run:
        with watch.phase("anchor"):
            anchor = choose_anchor(run)
            pairs = PromptPairs.make(request, anchor.name)
        evaluator = evaluator_for(run, anchor)
        assert isinstance(evaluator, Evaluator)
        evaluator = cast(Evaluator, TimedEvaluator(evaluator, watch))
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
        card = f", {facts['card']:g} GB of it" if facts["card"] else ""
        out += [f"{size}: {facts['device']}{card}, {facts['side']} x {facts['side']}, {facts['dtype']}"]
        for phase, seconds in facts["seconds"].items():
            most, rows = facts["peak_mb"][phase], facts["rows"][phase]
            out.append(f"  {phase:12} {seconds:8.1f} s  {rows:6} rows  at most {most:8.0f} MB")
        step = facts["seconds a step"]
        out += [f"  a step       {step:8.3f} s  {facts['plan']}"] if step else []
        same = "the same bits" if facts["model bits unchanged"] else "NOT the same"
        out.append(f"  whole        {facts['whole']:8.1f} s  the model afterwards: {same}")
    return out
