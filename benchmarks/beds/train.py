"""Train the two flow models, the second from the transformer of the first:

    python -m benchmarks.beds.train causal --work DIR --out flow.safetensors
    python -m benchmarks.beds.train bidirectional --work DIR --out flow_t5.safetensors --start flow.safetensors

43 and 25 minutes on one core. A run that was cut off goes on from its last hundred steps; one seed is one way.
"""

from __future__ import annotations

import argparse
import copy
import math
import os
import time
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .data import SEED, Lesson
from .network import DENOISER, DEVIATION, ENCODER, FlowTransformer, ids_of, text_encoder

BATCH, PEAK, WARM, EMPTY, EVERY = 64, 1.2e-3, 200, 0.1, 100
STEPS = {"causal": 2200, "bidirectional": 1200}


class Bed(nn.Module):
    """A transformer, and its own text encoder where it is not the demo's."""

    def __init__(self, words: int | None):
        super().__init__()
        self.flow = FlowTransformer()
        self.text = text_encoder(words) if words else None

    def forward(self, x: Tensor, t: Tensor, text: Tensor) -> Tensor:
        """text: tokens `[b, n, 128]`, or their ids `[b, n]` for a text encoder of its own."""
        return self.flow(x, t, self.text(text).last_hidden_state if self.text else text)


def train(bed: Bed, lesson: Lesson, state: Path, steps: int) -> nn.Module:
    """Rectified flow (Liu et al. 2022, arXiv 2209.03003); returns the average of the weights over the last steps."""
    average = copy.deepcopy(bed).eval()
    optimizer = torch.optim.AdamW(bed.parameters(), lr=PEAK, betas=(0.9, 0.98), weight_decay=1e-4)
    first = gone_on(bed, average, optimizer, state)
    begun, shown = time.monotonic(), 0.0
    for step in range(first, steps):
        for group in optimizer.param_groups:
            group["lr"] = PEAK * min(1, (step + 1) / WARM) * 0.5 * (1 + math.cos(math.pi * step / steps))
        loss = loss_of(bed, lesson, torch.Generator().manual_seed(SEED * 1_000_003 + step))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(bed.parameters(), 1.0)
        optimizer.step()
        decay = min(0.999, (step + 1) / (step + 20))
        with torch.no_grad():
            for old, new in zip(average.parameters(), bed.parameters(), strict=True):
                old.lerp_(new, 1 - decay)
        shown += loss.item()
        if (step + 1) % EVERY == 0:
            print(f"{step + 1}/{steps} loss {shown / EVERY:.4f} {time.monotonic() - begun:.0f} s", flush=True)
            shown = 0.0
            keep(bed, average, optimizer, step + 1, state)
    return average


def keep(bed: Bed, average: nn.Module, optimizer: torch.optim.Optimizer, step: int, file: Path) -> None:
    """All that a training needs to go on after so many steps, in the place of what was kept before."""
    tensors = {f"{n}.{part}": t for n, m in (("bed", bed), ("average", average)) for part, t in m.state_dict().items()}
    for number, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": t for name, t in moments.items()}
    new = file.with_suffix(".new")
    save_file({name: t.contiguous().clone() for name, t in tensors.items()}, new, {"step": str(step)})
    os.replace(new, file)


def gone_on(bed: Bed, average: nn.Module, optimizer: torch.optim.Optimizer, file: Path) -> int:
    """Take up what `keep` has written; the number of steps that are done."""
    if not file.exists():
        return 0
    with safe_open(file, "pt") as kept:
        tensors = {name: kept.get_tensor(name) for name in kept.keys()}  # noqa: SIM118 - it is no dict
        step = int(kept.metadata()["step"])
    for name, module in (("bed.", bed), ("average.", average)):
        module.load_state_dict({n.removeprefix(name): t for n, t in tensors.items() if n.startswith(name)})
    moments: dict[int, dict[str, Tensor]] = {}
    for name, t in tensors.items():
        if name.startswith("optimizer."):
            _, number, moment = name.split(".")
            moments.setdefault(int(number), {})[moment] = t
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return step


def loss_of(bed: Bed, lesson: Lesson, draw: torch.Generator) -> Tensor:
    """The mean squared error of the velocity at times near the middle; one caption in ten is left empty."""
    pick = torch.randint(0, len(lesson.tokens), (BATCH,), generator=draw)
    clean, read = lesson.latents[pick], lesson.tokens[pick].clone()
    read[torch.rand(BATCH, generator=draw) < EMPTY] = lesson.empty
    t = torch.sigmoid(torch.randn(BATCH, generator=draw))
    noise = torch.randn(clean.shape, generator=draw)
    at = t.view(-1, 1, 1, 1)
    return (bed((1 - at) * clean + at * noise, t, read) - (noise - clean)).square().mean()


def weights_of(bed: Bed, deviation: float) -> dict[str, Tensor]:
    """A checkpoint in half precision, by the names of ComfyUI's class; `deviation` as a tensor of its own."""
    found = {DENOISER + n: t for n, t in bed.flow.net.state_dict().items()}
    if bed.text:
        found |= {ENCODER + n: t for n, t in bed.text.state_dict().items() if n != "encoder.embed_tokens.weight"}
    return {n: t.half().contiguous() for n, t in found.items()} | {DEVIATION: torch.tensor(deviation)}


def main() -> None:
    """All of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=STEPS)
    parser.add_argument("--work", type=Path, required=True, help="folder of what is made on the way")
    parser.add_argument("--out", type=Path, required=True, help="the checkpoint")
    parser.add_argument("--start", type=Path, help="begin with the transformer of this checkpoint")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    lesson = Lesson.load(args.work / "lesson.safetensors")
    torch.manual_seed(SEED)
    bed = Bed(None)
    if args.kind == "bidirectional":
        ids = ids_of(["", *lesson.captions])
        bed, lesson = Bed(int(ids.max()) + 1), replace(lesson, tokens=ids[1:], empty=ids[:1])
    if args.start:
        with safe_open(args.start, "pt") as kept:
            names = [n for n in kept.keys() if n.startswith(DENOISER)]  # noqa: SIM118 - it is no dict
            bed.flow.net.load_state_dict({n.removeprefix(DENOISER): kept.get_tensor(n).float() for n in names})
    average = train(bed, lesson, args.work / f"{args.kind}.safetensors", STEPS[args.kind])
    save_file(weights_of(average, lesson.deviation), args.out)


if __name__ == "__main__":
    main()
