"""UCE (Gandikota et al. 2023, arXiv 2308.14761), closed form, one request after the other.

    W' = (sum W c* c^T + l_p sum W k k^T + l W) (sum c c^T + l_p sum k k^T + l I)^-1     (eq. 7)

for every key and value matrix of cross-attention, or where text enters a model that has none: the target's tokens c
answer as the anchor's c*, preserved tokens k as before. Preserved: prompts of all other objects and styles of the
checkpoint's word list and the general one, and what earlier requests have edited, so that it stays edited. Tokens that
do not change are left to the ridge term. OCE holds prompts of a vocabulary beside them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unlearn_core.method.token_moments import moment_of

from .text_space import ClosedForm, TextSpace


@dataclass(frozen=True)
class UCE(ClosedForm):
    """Settings of the paper's code, sums as means; `GRID` is what `search` tries."""

    name: ClassVar[str] = "uce"
    label: ClassVar[str] = "UCE, closed form"
    GRID: ClassVar[dict] = {"keep_scale": (1.0, 10.0, 100.0), "ridge": (1e-3, 1e-2)}
    keep_scale: float = 1.0
    ridge: float = 1e-2

    def change(self, space: TextSpace) -> Tensor:
        """E[(c* - c) c^T] times the second bracket of the formula, inverted: what W' takes from W and more."""
        held = self.keep_scale * self.held(space) + space.ridge(self.ridge)
        return space.cross @ torch.linalg.inv(space.gram + held)

    def held(self, space: TextSpace) -> Tensor:
        """E[k k^T] over what is preserved, `[d, d]`."""
        return space.preserved.value


@dataclass(frozen=True)
class OCE(UCE):
    """OCE (2026, arXiv 2605.28902): the second moment of many captions' tokens is held as well.

    The captions are prompts of the vocabulary; open: what they weigh beside the lists.
    """

    name: ClassVar[str] = "oce"
    label: ClassVar[str] = "OCE, the vocabulary held beside the lists"
    GRID: ClassVar[dict] = {"keep_scale": (1.0, 3.0, 10.0)}
    open: float = 1.0

    def held(self, space: TextSpace) -> Tensor:
        """Both moments."""
        return super().held(space) + self.open * moment_of(space.reader, space.open_prompts).value
