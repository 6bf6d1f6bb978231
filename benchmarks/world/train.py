"""Train the world's image model, in stages that survive a stop:

    python -m benchmarks.world.train --work DIR --out world.safetensors

The learning rate stays level until the last `--cool` of `--steps` steps. A run that was cut off goes on from its last
hundred steps. To learn on after the end, ask for more `--steps`: it goes on from where the rate began to fall.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from ..beds.train import gone_on, keep
from .data import Samples, TrainingData
from .encoder import TextEncoder
from .network import CODE, DENOISER, network
from .things import SEED

PEAK, WARM, EVERY, DECAY = 1e-3, 200, 100, 0.999
SEEN = 4
"""How often a caption is seen, with other noise, in the hundred steps after it was read."""
LEAST = 0.5
"""Times below count as this one in the loss: else the fine details of nearly finished pictures would be most of it."""


@dataclass(frozen=True)
class Stage:
    """What holds from a step on: samples of a step, and the middles of the logits of their times, drawn alike.

    What a picture shows is settled where there is so much noise that only the text can tell.
    """

    first: int
    batch: int
    middles: tuple[float, ...]


STAGES = (Stage(0, 64, (0.8,)), Stage(300, 32, (0.8,)), Stage(1400, 32, (1.8, 1.8, 1.8, 0.2)))


@dataclass(frozen=True)
class Schedule:
    """How long it goes: steps in all, and over how many of them at the end the rate falls to zero."""

    steps: int
    cool: int
    work: Path

    def rate(self, step: int) -> float:
        """The learning rate."""
        return PEAK * min(1, (step + 1) / WARM, (self.steps - step) / self.cool)

    def state(self, step: int) -> Path:
        """Where the training is kept after so many steps."""
        level = step <= self.steps - self.cool
        return self.work / ("training.safetensors" if level else f"cooling-{self.steps}.safetensors")


def train(training_data: TrainingData, schedule: Schedule) -> nn.Module:
    """Rectified flow (Liu et al. 2022, arXiv 2209.03003); returns the average of the weights over the last steps."""
    torch.manual_seed(SEED)
    net, encoder = network(), TextEncoder()
    average = copy.deepcopy(net).eval()
    optimizer = torch.optim.AdamW(net.parameters(), lr=PEAK, betas=(0.9, 0.98), weight_decay=1e-4, fused=True)
    last = schedule.state(schedule.steps)
    first = gone_on(net, average, optimizer, last if last.exists() else schedule.state(0))
    begun, shown, samples = time.monotonic(), 0.0, None
    for step in range(first, schedule.steps):
        if samples is None or step % EVERY == 0:
            samples = Samples.write(step // EVERY, EVERY * stage(step).batch // SEEN, training_data, encoder)
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step)
        loss = loss_of(net, samples, stage(step), torch.Generator().manual_seed(SEED * 1_000_003 + step))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        decay = min(DECAY, (step + 1) / (step + 20))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(net.parameters()), 1 - decay)
        shown += loss.item()
        if (step + 1) % EVERY == 0:
            speed = EVERY * stage(step).batch / (time.monotonic() - begun)
            print(f"{step + 1}/{schedule.steps} loss {shown / EVERY:.4f}, {speed:.0f} samples a second", flush=True)
            begun, shown = time.monotonic(), 0.0
            keep(net, average, optimizer, step + 1, schedule.state(step + 1))
    return average


def stage(step: int) -> Stage:
    """The one that holds."""
    return [s for s in STAGES if s.first <= step][-1]


def loss_of(net: nn.Module, samples: Samples, now: Stage, draw: torch.Generator) -> Tensor:
    """The mean squared error of the flow's velocity; the network answers the clean latent (Li and He 2025).

    x = (1 - t) z + t n, and (x - z') / t is the velocity that an answer z' stands for.
    """
    pick = torch.randint(0, len(samples.tokens), (now.batch,), generator=draw)
    clean, tokens = samples.latents[pick], samples.tokens[pick]
    middles = torch.tensor(now.middles)[torch.randint(0, len(now.middles), (now.batch,), generator=draw)]
    t = torch.sigmoid(torch.randn(now.batch, generator=draw) + middles)
    noise = torch.randn(clean.shape, generator=draw)
    at = t.view(-1, 1, 1, 1)
    with torch.autocast("cpu", torch.bfloat16), whole_attention():
        said = net((1 - at) * clean + at * noise, t, tokens)
    return ((said.float() - clean) / at.clamp(min=LEAST)).square().mean()


@contextmanager
def whole_attention() -> Iterator[None]:
    """Attention in float32: its derivative in bfloat16 takes six times as long on a CPU, and all else half the time."""
    real = F.scaled_dot_product_attention

    def whole(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return real(query.float(), key.float(), value.float(), **options).to(value.dtype)

    F.scaled_dot_product_attention = whole
    try:
        yield
    finally:
        F.scaled_dot_product_attention = real


def weights_of(net: nn.Module, training_data: TrainingData) -> dict[str, Tensor]:
    """A checkpoint in half precision; the code of the latents lies in it."""
    code = {CODE + name: getattr(training_data.code, name) for name in ("axes", "mean", "scale")}
    found = {DENOISER + n: t for n, t in net.net.state_dict().items()}
    return {n: t.half().contiguous() for n, t in (found | code).items()}


def main() -> None:
    """All of it, or as far as it gets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of what is made on the way")
    parser.add_argument("--out", type=Path, required=True, help="the checkpoint")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--cool", type=int, default=2_000)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    training_data = TrainingData.load(args.work)
    average = train(training_data, Schedule(args.steps, args.cool, args.work))
    save_file(weights_of(average, training_data), args.out)


if __name__ == "__main__":
    main()
