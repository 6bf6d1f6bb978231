"""What the image model learns: the latents of every thing alone and as one of two, and captions without end."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from . import captions
from .captions import Shown
from .drawings import SIZE, all_drawings, pair, pictures, single
from .encoder import TextEncoder
from .latents import Code
from .things import BACKGROUNDS, PAIR_STYLES, SEED, STYLES, things

READ_AT_ONCE = 64


@dataclass(frozen=True)
class TrainingData:
    """whole: `[things, styles, backgrounds, 96, 4, 4]`; half: `[things, pair styles, backgrounds, 96, 4, 2]`."""

    code: Code
    whole: Tensor
    half: Tensor

    @classmethod
    def load(cls, work: Path) -> TrainingData:
        """From the work folder, where the drawings are fetched and coded first if they are not there: a minute."""
        file = work / "latents.safetensors"
        if not file.exists():
            save_file({n: t.contiguous() for n, t in coded(work).items()}, file)
        parts = load_file(file)
        return cls(Code(parts["axes"], parts["mean"], parts["scale"]), parts["whole"], parts["half"])

    def latent(self, shown: Shown) -> Tensor:
        """`[96, 4, 4]`."""
        at = list(BACKGROUNDS).index(shown.background)
        left = things().index(shown.thing)
        if not shown.right:
            return self.whole[left, list(STYLES).index(shown.style), at]
        style = PAIR_STYLES.index(shown.style)
        return torch.cat([self.half[left, style, at], self.half[things().index(shown.right), style, at]], -1)


def coded(work: Path) -> dict[str, Tensor]:
    """The tensors of `TrainingData`."""
    drawn = all_drawings(work / "packages")
    grounds = list(BACKGROUNDS)
    wholes = [single(drawn[t.name, s]) for t in things() for s in STYLES]
    halves = [pair(drawn[t.name, s], None) for t in things() for s in PAIR_STYLES]
    whole, half = (pictures([d for d in a for _ in grounds], grounds * len(a)) for a in (wholes, halves))
    half = half[..., : SIZE // 2]
    code = Code.of(torch.cat([whole, torch.cat([half, half.flip(0)], -1)]))
    sizes = len(things()), -1, len(grounds)
    latents = [z.view(*sizes, *z.shape[1:]) for z in (code.latents(whole), code.latents(half))]
    return {"axes": code.axes, "mean": code.mean, "scale": code.scale, "whole": latents[0], "half": latents[1]}


@dataclass(frozen=True)
class Samples:
    """Some captions, read, with their latents: tokens `[n, 20, 256]`, latents `[n, 96, 4, 4]`."""

    tokens: Tensor
    latents: Tensor

    @classmethod
    def write(cls, number: int, size: int, training_data: TrainingData, encoder: TextEncoder) -> Samples:
        """The samples of that number: always the same."""
        rng = random.Random(SEED * 1_000_003 + number)
        told = [captions.lesson(rng) for _ in range(size)]
        texts = [text for text, _ in told]
        tokens = torch.cat([encoder(texts[i : i + READ_AT_ONCE]) for i in range(0, size, READ_AT_ONCE)])
        return cls(tokens, torch.stack([training_data.latent(shown) for _, shown in told]))
