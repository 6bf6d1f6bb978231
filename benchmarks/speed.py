"""Time of a training step against the bare passes it cannot do without, on the same batch, in the same run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from unlearn_core.config import ForgetConfig
from unlearn_core.delta.format import Delta, DeltaInfo, Factor
from unlearn_core.delta.stack import Stack
from unlearn_core.demo.recognition import CHECKPOINT
from unlearn_core.errors import BadSetting
from unlearn_core.host import HostModel
from unlearn_core.method.adapters import attached
from unlearn_core.method.plan import expected_training
from unlearn_core.method.request import Request
from unlearn_core.method.run import Run
from unlearn_core.method.token_moments import Moment
from unlearn_core.method.training import losses
from unlearn_core.method.training.checkpointing import checkpointed
from unlearn_core.method.training.data import Batch, TrainingData
from unlearn_core.method.training.loop import Trainer
from unlearn_core.method.training.losses import PreservationPenalty
from unlearn_core.method.training.memory import paced
from unlearn_core.progress import StepReport
from unlearn_core.sampling import LatentBank, direction, noise
from unlearn_core.standalone.model import StandaloneModel

from . import flops
from .memory import now_mb, peak_mb, start_peak
from .phases import bits, phases
from .run import device_name
from .sizes import NARROW, UNETS, random_networks

ROUNDS = 3
STEPS = {"demo": 16, "sd15": 4, "sdxl": 3, NARROW: 16}
"""Steps of a round."""
WARM = 2
"""First steps of a round that are not counted."""
PROMPTS = 24
TALL = 20
"""Earlier deltas in the taller of two stacks that are compared."""
SIZES = ("demo", *UNETS)


@dataclass(frozen=True)
class Subject:
    """What is measured: the demo model, or a full-size network with random weights, on a device.

    resolution: in pixels; None: the size that the model was trained at.
    """

    device: str
    size: str = "demo"
    resolution: int | None = None
    half: bool = True

    def host(self) -> StandaloneModel:
        """The model, loaded or made."""
        networks = CHECKPOINT if self.size == "demo" else random_networks(self.size)
        return StandaloneModel(networks, self.device, self.resolution, self.half)


def measure(subject: Subject, values: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a step costs, as labelled texts. values: settings."""
    config = ForgetConfig.from_flat({"concept": "banana", "steps": STEPS[subject.size], **(values or {})})
    if config.steps <= WARM:
        raise BadSetting(f"The first {WARM} steps are not counted: set more of them.")
    host = subject.host()
    loaded = now_mb()
    start_peak()
    return described(host, config, StepBench(host, config).measure()) | memory_of(loaded)


def profile(subject: Subject, values: Mapping[str, str] | None = None) -> dict[str, str]:
    """Where the time and the memory of a whole run go, and whether the model is the same afterwards."""
    config = ForgetConfig.from_flat({"concept": "banana", **(values or {})})
    host = subject.host()
    loaded = now_mb()
    start_peak()
    return {"device": device_name(host)} | run_of(host, config) | memory_of(loaded)


def memory_of(loaded: float | None) -> dict[str, str]:
    """Memory with the model loaded, and the peak since; nothing where it is unknown."""
    peak = peak_mb()
    if not (peak and loaded):
        return {}
    return {"memory": f"{loaded:.0f} MB with the model loaded, at most {peak:.0f} MB, {peak / loaded - 1:+.0%}"}


@dataclass(frozen=True)
class Found:
    """Median seconds: of a training step, of the bare passes alone, of a step on a stack of `TALL`; FLOPs; plan."""

    step: float
    bare: float
    tall: float
    operations: int
    plan: str


class Unfinished:
    """In place of an evaluator: the target is still there, so that all steps are made, and nothing is drawn."""

    def still_generated(self, number: int, settled: bool) -> bool:
        """Always."""
        return True


class StepBench:
    """The training of one request on a host, as often as it is asked for. rounds, warm, tall: see the constants."""

    def __init__(self, host: HostModel, config: ForgetConfig, rounds: int = ROUNDS, warm: int = WARM, tall: int = TALL):
        self.host, self.config, self.rounds, self.warm = host, config, rounds, warm
        paths = Request.read(host, config, Stack()).trained
        self.low, self.high = (random_stack(host, list(paths), n) for n in (1, tall))
        self.stamps: list[float] = []

    def measure(self) -> Found:
        """Take turns, so that a busy moment of the machine meets all."""
        step, bare, tall = [], [], []
        for _ in range(self.rounds):
            with self.ready(self.low) as trainer:
                step += self.steps(trainer)
                bare += self.bare_steps(trainer)
            with self.ready(self.high) as trainer:
                tall += self.steps(trainer)
        with self.ready(self.low) as trainer:
            batch = self.batch(trainer)
            operations = flops.counted(lambda: self.passes(trainer, batch))
            plan = trainer.pace.plan.sentence()
        return Found(*(statistics.median(t) for t in (step, bare, tall)), operations, plan)

    @contextmanager
    def ready(self, stack: Stack) -> Iterator[Trainer]:
        """A training on a stack that is ready to begin, as `fit_by_training` makes it; its data is noise."""
        config = self.config
        request = Request.read(self.host, config, stack)
        with (
            Run.open(request, self.host, self.heard) as run,
            attached(run.backbone, run.edits.paths, config.rank, config.seed) as adapters,
        ):
            run.job.extend(expected_training(request))
            run.student = adapters
            learned = sum(p.numel() for p in adapters.parameters())
            pace = paced(run.host, run.backbone, run.cost, learned, config)
            data = self.data(run)
            preserved = Moment.of(data.mapped.tokens)
            weights = {p: adapters.weight(p) for p in run.readers[0].paths if p in adapters.factors}
            penalty = PreservationPenalty.make(weights, preserved, None, run.base.changes, self.host.device)
            with checkpointed(run.backbone, lambda: pace.plan.checkpointing):
                yield Trainer(run, adapters, data, [penalty], pace)

    def data(self, run: Run) -> TrainingData:
        """Noise in place of pictures: what they show changes no time."""
        host = run.host
        prompts = host.encode(["a banana in ink style"] * PROMPTS)
        bank = LatentBank(noise((PROMPTS, 1, *host.latent_shape), 0, host.device), prompts)
        weights, levels = torch.ones(PROMPTS), torch.ones(len(host.sigmas))
        return TrainingData(bank, prompts, bank, weights, prompts, levels, 0, 1.0)

    def heard(self, report: StepReport) -> None:
        """Stamp the beginning of a training and the end of each of its steps."""
        if report.phase == "training":
            synchronise(self.host.device)
            self.stamps.append(time.perf_counter())

    def steps(self, trainer: Trainer) -> list[float]:
        """Seconds of each step of the real loop, the preservation penalty included."""
        self.stamps.clear()
        trainer.train(Unfinished())
        return [b - a for a, b in zip(self.stamps[self.warm :], self.stamps[self.warm + 1 :], strict=False)]

    def batch(self, trainer: Trainer) -> Batch:
        """One step's input."""
        return trainer.data.batch(trainer.run.host, self.config.batch, torch.Generator().manual_seed(0))

    def bare_steps(self, trainer: Trainer) -> list[float]:
        """Seconds of the passes alone, as many times."""
        batch, seconds = self.batch(trainer), []
        for _ in range(self.config.steps - self.warm):
            synchronise(self.host.device)
            start = time.perf_counter()
            self.passes(trainer, batch)
            synchronise(self.host.device)
            seconds.append(time.perf_counter() - start)
        return seconds

    def passes(self, trainer: Trainer, batch: Batch) -> None:
        """The teacher's forward pass, the student's, and the way back."""
        host = trainer.run.host
        for part in batch.parts(trainer.pace.plan.pairs):
            with torch.no_grad(), trainer.adapters.off():
                goal = direction(host, part.x, part.sigma, part.teacher)
            with torch.enable_grad():
                found = direction(host, part.x, part.sigma, part.student)
                losses.squared_distance(found, goal).mean().backward()
        for p in trainer.adapters.parameters():
            p.grad = None


def random_stack(host: HostModel, paths: list[str], height: int) -> Stack:
    """A stack of small random deltas, as many as `height`."""
    names = {path: name for name, path in reversed(host.layers().items())}
    generator = torch.Generator().manual_seed(1)
    stack = Stack()
    with host.session(Stack()) as backbone:
        shapes = {path: weight_of(backbone, path).shape for path in paths}
    for i in range(height):
        factors = {}
        for path, (out, inside) in shapes.items():
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
