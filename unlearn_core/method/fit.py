"""How a request was fitted: what the layers got, and by which way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Fit:
    """factors: {path: (A `[r, in]`, B `[out, r]`)} on the CPU, float32. preserve_scale: of the closed form, 0 after a
    training. steps, seconds, memory: of the training: its length, its time, and its memory plan in words. against: what
    it was for, where it came after the closed form."""

    factors: Mapping[str, tuple[Tensor, Tensor]]
    preserve_scale: float = 0.0
    steps: int = 0
    seconds: float = 0.0
    memory: str = ""
    against: str = ""

    @property
    def way(self) -> str:
        """In words."""
        if self.preserve_scale:
            after = f"then {self.steps} steps of training {self.against}" if self.steps else "without training"
            return f"at once, {after}"
        return f"training, {self.steps} steps"
