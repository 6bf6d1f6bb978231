"""Time of a training step against the bare passes it cannot do without, on the same batch, in the same run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from unlearn_core.config import ForgetConfig
from unlearn_core.delta.base_model import Untouched
from unlearn_core.delta.format import Delta, DeltaInfo, Factor
from unlearn_core.delta.stack import Stack
from unlearn_core.demo.recognition import CHECKPOINT
from unlearn_core.errors import BadSetting
from unlearn_core.method.adapters import Adapters, attached
from unlearn_core.method.forget import base_model
from unlearn_core.method.text_layers import is_target
from unlearn_core.method.token_moments import Moment
from unlearn_core.method.training import losses
from unlearn_core.method.training.data import Batch, Lessons
from unlearn_core.method.training.loop import train
from unlearn_core.method.training.losses import TextGuard
from unlearn_core.method.training.memory import Pace, checkpointed, paced
from unlearn_core.progress import StepReport, Tracker
from unlearn_core.sampling import LatentBank, direction, noise
from unlearn_core.standalone.model import StandaloneModel

from . import flops
from .memory import now_mb, peak_mb, start_peak
from .phases import bits, phases
from .run import device_name
from .sizes import UNETS, random_networks

ROUNDS = 3
STEPS = {"demo": 16, "sd15": 4, "sdxl": 3}
"""Steps of a round."""
WARM = 2
"""First steps of a round that are not counted."""
PROMPTS = 24
TALL = 20
"""Earlier deltas in the taller of two stacks that are compared."""
SIZES = ("demo", *UNETS)


def measure(
    device: str,
    size: str = "demo",
    values: Mapping[str, str] | None = None,
    resolution: int | None = None,
    half: bool = True,
    whole: bool = False,
) -> dict[str, str]:
    """What a step costs, and with `whole` where the time of a whole run goes, as labelled texts.

    size: "demo", or a full-size network with random weights. values: settings. resolution: in pixels.
    """
    given = {"concept": "banana", **(values or {})}
    config = ForgetConfig.from_flat({"steps": STEPS[size], **given})
    if config.steps <= WARM:
        raise BadSetting(f"The first {WARM} steps are not counted: set more of them.")
    host = StandaloneModel(CHECKPOINT if size == "demo" else random_networks(size), device, resolution, half)
    loaded = now_mb()
    start_peak()
    found = Bench(host, config).measure()
    lines = described(host, config, found)
    if whole:
        lines |= run_of(host, ForgetConfig.from_flat(given))
    peak = peak_mb()
    if peak and loaded:
        lines["memory"] = f"{loaded:.0f} MB with the model loaded, at most {peak:.0f} MB, {peak / loaded - 1:+.0%}"
    return lines


@dataclass(frozen=True)
class Found:
    """Median seconds: of a step in `train`, of the bare passes alone, of a step on a stack of `TALL`; FLOPs; plan."""

    step: float
    bare: float
    tall: float
    operations: int
    plan: str


class Bench:
    """One host and one set of lessons to measure on."""

    def __init__(self, host: StandaloneModel, config: ForgetConfig):
        self.host, self.config = host, config
        prompts = host.encode(["a banana in ink style"] * PROMPTS)
        bank = LatentBank(noise((PROMPTS, 1, *host.latent_shape), 0, host.device), prompts)
        self.lessons = Lessons(bank, prompts, bank, torch.ones(PROMPTS), prompts, torch.ones(len(host.sigmas)), 0, 1.0)
        self.paths = sorted({p for p in host.layers().values() if is_target(p, config.layers)})
        self.low, self.high = (random_stack(host, self.paths, n) for n in (1, TALL))

    def measure(self) -> Found:
        """Take turns, so that a busy moment of the machine meets all."""
        step, bare, tall = [], [], []
        for _ in range(ROUNDS):
            with self.ready(self.low) as (adapters, untouched, pace):
                step += self.steps(adapters, untouched, pace)
                bare += self.bare_steps(adapters, pace)
            with self.ready(self.high) as (adapters, untouched, pace):
                tall += self.steps(adapters, untouched, pace)
        with self.ready(self.low) as (adapters, _, pace):
            batch = self.batch()
            operations = flops.counted(lambda: self.passes(batch, adapters, pace))
            plan = pace.plan.sentence()
        return Found(*(statistics.median(t) for t in (step, bare, tall)), operations, plan)

    @contextmanager
    def ready(self, stack: Stack) -> Iterator[tuple[Adapters, Untouched, Pace]]:
        """Adapters on a stack, the model without it, and the memory plan."""
        host, config = self.host, self.config
        with (
            host.session(stack) as backbone,
            Untouched(backbone, host.layers(), stack).hooked(backbone) as untouched,
            attached(backbone, self.paths, config.rank, 0) as adapters,
        ):
            learned = sum(p.numel() for p in adapters.parameters())
            pace = paced(host, backbone, config.batch, learned, config.checkpointing, config.memory)
            with checkpointed(backbone, lambda: pace.plan.checkpointing):
                yield adapters, untouched, pace

    def batch(self) -> Batch:
        """One step's input."""
        return self.lessons.draw(self.host, self.config.batch, torch.Generator().manual_seed(0))

    def steps(self, adapters: Adapters, untouched: Untouched, pace: Pace) -> list[float]:
        """Seconds of each step of the real loop, the guard included."""
        stamps: list[float] = []

        def stamp(_: StepReport) -> None:
            synchronise(self.host.device)
            stamps.append(time.perf_counter())

        guard = TextGuard.make(adapters, Moment.of(self.lessons.mapped.tokens), earlier=untouched.changes)
        job = Tracker({"training": 1.0}, stamp)
        loop = (
            adapters,
            partial(base_model, adapters, untouched),
            self.lessons,
            guard,
            job,
            lambda step, settled: True,
            pace,
        )
        train(self.host, self.config, "object", *loop)
        return [b - a for a, b in zip(stamps[WARM:], stamps[WARM + 1 :], strict=False)]

    def bare_steps(self, adapters: Adapters, pace: Pace) -> list[float]:
        """Seconds of the passes alone, as many times."""
        batch, seconds = self.batch(), []
        for _ in range(self.config.steps - WARM):
            synchronise(self.host.device)
            start = time.perf_counter()
            self.passes(batch, adapters, pace)
            synchronise(self.host.device)
            seconds.append(time.perf_counter() - start)
        return seconds

    def passes(self, batch: Batch, adapters: Adapters, pace: Pace) -> None:
        """The teacher's forward pass, the student's, and the way back."""
        for part in batch.parts(pace.plan.pairs):
            with torch.no_grad(), adapters.off():
                goal = direction(self.host, part.x, part.sigma, part.teacher)
            found = direction(self.host, part.x, part.sigma, part.student)
            losses.squared_distance(found, goal).mean().backward()
        for p in adapters.parameters():
            p.grad = None


def random_stack(host: StandaloneModel, paths: list[str], height: int) -> Stack:
    """A stack of small random deltas, as many as `height`."""
    names = {path: name for name, path in reversed(host.layers().items())}
    generator = torch.Generator().manual_seed(1)
    stack = Stack()
    for i in range(height):
        factors = {}
        for path in paths:
            out, inside = weight_of(host.backbone, path).shape
            down, up = (torch.randn(s, generator=generator) * 1e-3 for s in ((4, inside), (out, 4)))
            factors[names[path]] = Factor(down, up, 4.0)
        info = DeltaInfo(
            concept=f"concept {i}",
            kind="object",
            anchor="",
            architecture=host.architecture,
            prediction_type=host.prediction_type,
            base_fingerprint=host.fingerprint,
        )
        stack = stack.with_delta(Delta(factors, info))
    return stack


def weight_of(backbone: nn.Module, path: str) -> torch.Tensor:
    """A linear layer's weight, `[out, in]`."""
    return backbone.get_submodule(path).weight


def described(host: StandaloneModel, config: ForgetConfig, found: Found) -> dict[str, str]:
    """The numbers with their units."""
    side = 8 * host.latent_shape[1]
    return {
        "device": device_name(host),
        "pictures": f"{side} x {side}",
        "batch": f"{config.batch} forget + {config.batch} replay",
        "plan": found.plan,
        "seconds per step": f"{found.step:.4f}",
        "bare passes": f"{found.bare:.4f}",
        "overhead": f"{found.step / found.bare:.3f}x",
        f"on a stack of {TALL}": f"{found.tall:.4f}, {found.tall / found.step:.3f}x a stack of 1",
        "operations": f"{found.operations / 1e12:.3f} TFLOP a step, {found.operations / found.bare / 1e12:.3f} TFLOP/s",
    }


def run_of(host: StandaloneModel, config: ForgetConfig) -> dict[str, str]:
    """Share of time by kind of work in a whole run, and whether the model is the same afterwards."""
    before = bits(host.backbone)
    seconds, steps = phases(host, config)
    whole = sum(seconds.values())
    shares = ", ".join(f"{kind} {t / whole:.0%}" for kind, t in seconds.items())
    same = "the same bits" if bits(host.backbone) == before else "NOT the same"
    return {"whole run": f"{whole:.0f} s, {steps} steps: {shares}", "weights afterwards": same}


def synchronise(device: torch.device) -> None:
    """Wait for the card, so that the clock sees its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
