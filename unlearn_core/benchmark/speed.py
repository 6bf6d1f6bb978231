"""Time of a training step against the bare passes it cannot do without, on the same batch, in the same run."""

from __future__ import annotations

import statistics
import time

import torch

from .. import losses
from ..config import ForgetConfig
from ..demo import CHECKPOINT
from ..interfaces import StepReport
from ..lessons import Lessons
from ..lora import attached
from ..memory import paced
from ..progress import Tracker
from ..sampling import LatentBank, direction, noise
from ..stack import Stack
from ..standalone import StandaloneModel
from ..train import is_target, train

STEPS = 24


def measure(device: str) -> dict[str, str]:
    """Median seconds of a step in `train` and of its teacher forward, student forward and backward alone."""
    host = StandaloneModel(CHECKPOINT, device)
    config = ForgetConfig(concept="banana", steps=STEPS)
    prompts = host.encode(["a banana in ink style"] * 24)
    latents = noise((24, 2, *host.latent_shape), 0, host.device)
    bank = LatentBank(latents, prompts)
    even = torch.ones(24)
    lessons = Lessons(bank, prompts, bank, even, torch.ones(len(host.sigmas)), 1.0)
    paths = sorted({p for p in host.layers().values() if is_target(p, config.layers)})
    with host.session(Stack()) as backbone, attached(backbone, paths, config.rank, 0) as adapters:
        learned = sum(p.numel() for pair in adapters.factors.values() for p in pair)
        pace = paced(host, backbone, config.batch, learned, config.checkpointing, config.memory)
        stamps: list[float] = []

        def stamp(_: StepReport) -> None:
            synchronise(host.device)
            stamps.append(time.perf_counter())

        batch = lessons.draw(host, config.batch, torch.Generator().manual_seed(0))
        parameters = [p for pair in adapters.factors.values() for p in pair]
        bare, whole = [], []
        for _ in range(3):  # in turns, so that a busy moment of the machine meets both
            stamps.clear()
            job = Tracker({"training": 1.0}, stamp)
            train(host, config, "object", adapters, lessons, None, job, lambda _: 1.0, pace)
            whole += [b - a for a, b in zip(stamps[2:], stamps[3:], strict=False)]
            for _ in range(STEPS):
                synchronise(host.device)
                start = time.perf_counter()
                with torch.no_grad(), adapters.off():
                    goal = direction(host, batch.x, batch.sigma, batch.teacher)
                found = direction(host, batch.x, batch.sigma, batch.student)
                losses.squared_distance(found, goal).mean().backward()
                synchronise(host.device)
                bare.append(time.perf_counter() - start)
                for p in parameters:
                    p.grad = None
    step, bound = statistics.median(whole), statistics.median(bare)
    card = (
        torch.cuda.get_device_name(host.device)
        if host.device.type == "cuda"
        else f"{torch.get_num_threads()} CPU threads"
    )
    return {
        "device": card,
        "batch": f"{config.batch} forget + {config.batch} replay",
        "seconds per step": f"{step:.4f}",
        "bare passes": f"{bound:.4f}",
        "overhead": f"{step / bound:.3f}x",
        "memory": pace.plan.sentence(),
    }


def synchronise(device: torch.device) -> None:
    """Wait for the card, so that the clock sees its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
