"""A few numbers of a checkpoint, by which it is known again when it is loaded with numbers of another type.

A fingerprint is a hash and knows a checkpoint by its very numbers. Rounded to bfloat16 or float8 they are others, but
each lies within half a step of the coarser type from what it was, and this is checked for a thousand of them. The
numbers of a fine-tune lie elsewhere: one that moves all by a hundredth of their size leaves no chance, even in float8.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import BadDelta
from .layer_names import FINGERPRINTED, fingerprint

COUNT, FEWEST, MOST = 1024, 64, 4096
"""Numbers to take, and the bounds that a file's have."""
PART = 1.07
"""Of both roundings together, how far numbers may be apart: a third rounding, to bfloat16, may lie between them."""
HALF = "float16"
"""What a fingerprint is made of, so that float32 counts as the same."""


@dataclass(frozen=True)
class BaseSample:
    """names: 16 hex digits over the names and shapes of the matrices. types: of their numbers. values, steps: `[n]`."""

    names: str
    types: str
    values: Tensor
    steps: Tensor

    @classmethod
    def take(cls, weights: Mapping[str, Tensor], scales: Mapping[str, float | None] | None = None) -> BaseSample | None:
        """From a denoiser's weights by bare name; None where they are packed in a form of which no step is known.

        scales: what numbers are multiplied with, by the names of their weights; None where it is no single number.
        """
        scale = dict.fromkeys(weights, 1.0) | dict(scales or {})
        marked = [n for n in weights if n.endswith(FINGERPRINTED)] or [n for n in weights if n.endswith(".weight")]
        # looked at one by one: an open file reads a tensor each time that it is asked for one
        facts = {n: (list(t.shape), t.dtype) for n in sorted(marked) if (t := weights[n]).dim() == 2}
        names = list(facts)
        if not names or not all(facts[n][1].is_floating_point and scale[n] is not None for n in names):
            return None
        digest = hashlib.sha256("".join(f"{n} {facts[n][0]}\n" for n in names).encode())
        chosen = [names[i * len(names) // min(COUNT, len(names))] for i in range(min(COUNT, len(names)))]
        found = [some(weights[n], COUNT // len(chosen), scale[n] or 1.0) for n in chosen]
        values, steps = (torch.cat(part) for part in zip(*found, strict=True))
        types = {str(facts[n][1]).removeprefix("torch.") for n in names}
        held = " ".join(sorted({HALF if name == "float32" else name for name in types}))
        made = cls(digest.hexdigest()[:16], held, *stored(values, steps))
        return made if made.is_whole() else None

    @classmethod
    def read(cls, text: str) -> BaseSample:
        """From a delta's text. Raises `BadDelta` where it is none."""
        try:
            names, types, data = text.split(":")
            numbers = torch.frombuffer(bytearray(bytes.fromhex(data)), dtype=torch.float16).float()
            made = cls(names, types, *numbers.chunk(2))
        except (TypeError, ValueError) as e:
            raise BadDelta("The delta's sample of its base is not what this tool writes; make it again.") from e
        if len(names) != 16 or len(types) > 120 or not made.is_whole():
            raise BadDelta("The delta's sample of its base is not what this tool writes; make it again.")
        return made

    def text(self) -> str:
        """As a delta's file holds it."""
        numbers = torch.cat([self.values, self.steps]).half().numpy().astype("<f2").tobytes()
        return f"{self.names}:{self.types}:{numbers.hex()}"

    def is_whole(self) -> bool:
        """Whether the numbers are as many as they have to be, finite, and not all within one step of zero."""
        count, finite = len(self.values), bool(self.values.isfinite().all() and self.steps.isfinite().all())
        if not (FEWEST <= count <= MOST and count == len(self.steps) and finite and bool((self.steps >= 0).all())):
            return False
        return int((self.values.abs() > self.steps).sum()) >= FEWEST

    def same(self, other: BaseSample) -> bool:
        """Whether both are of one checkpoint, once with coarser numbers; a fingerprint tells equal types apart."""
        if self.names != other.names or self.types == other.types or len(self.values) != len(other.values):
            return False
        apart = (self.values - other.values).abs()
        return bool((apart <= PART * (self.steps + other.steps)).all())


def some(matrix: Tensor, count: int, scale: float) -> tuple[Tensor, Tensor]:
    """(evenly spaced numbers of a matrix, how far rounding to its type may have moved each)."""
    values = matrix.detach().reshape(-1)
    count = min(count, len(values))
    at = torch.arange(count, device=values.device) * len(values) // count
    return with_steps(values[at].float().cpu(), matrix.dtype, scale)


def with_steps(values: Tensor, dtype: torch.dtype, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """(numbers of a type times their scale, half the distance to the next number of that type)."""
    facts = torch.finfo(dtype)
    size = torch.exp2(values.abs().clamp(min=facts.tiny).log2().floor())
    return values * scale, size * (facts.eps / 2 * scale)


def stored(values: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
    """As a file holds them, in float16, which rounds once more."""
    kept, more = with_steps(values.half().float(), torch.float16)
    return kept, torch.maximum(steps, more * (kept != values)).half().float()


@dataclass(frozen=True)
class Base:
    """A checkpoint as deltas know it. sample: None where none can be taken."""

    fingerprint: str
    sample: BaseSample | None = None

    @classmethod
    def of(cls, weights: Mapping[str, Tensor], scales: Mapping[str, float | None] | None = None) -> Base:
        """From a denoiser's weights by bare name, see `BaseSample.take`. Raises `BadCheckpoint` if there are none."""
        return cls(fingerprint(weights), BaseSample.take(weights, scales))

    def made(self, fingerprint: str, sample: str) -> bool:
        """Whether a delta of this fingerprint and sample (a text, "" for none) was made for it."""
        if self.fingerprint == fingerprint:
            return True
        return bool(sample) and self.sample is not None and self.sample.same(BaseSample.read(sample))
