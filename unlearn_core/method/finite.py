"""Numbers that are none: told before the work where the model holds them, and in a sentence where they come up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..delta.layer_names import weight_of
from ..errors import TrainingFailed
from ..extremes import ends_of
from ..host import Conditioning

MEND = "load another copy of the checkpoint, or load it in full precision."
AT_ONCE = 64
"""Results that wait on a device before they are looked at together."""


def check_layers(backbone: nn.Module, layers: Mapping[str, str]) -> None:
    """Raise `TrainingFailed` where a layer of the loaded model holds NaN or infinity.

    layers: {path inside the backbone: name}. One pass over their weights; types that a host packs are not looked at.
    """
    waiting: list[tuple[str, Tensor]] = []
    for path in layers:
        weight = weight_of(backbone.get_submodule(path))
        if type(weight) in (Tensor, nn.Parameter) and weight.dtype in (torch.float16, torch.bfloat16, torch.float32):
            waiting.append((path, torch.stack(ends_of(weight.detach()))))
        if len(waiting) == AT_ONCE:
            check_ends(waiting)
            waiting = []
    check_ends(waiting)


def check_ends(found: Iterable[tuple[str, Tensor]]) -> None:
    """Raise `TrainingFailed` for the first layer whose smallest or largest weight is no number."""
    for path, ends in found:
        if not bool(ends.isfinite().all()):
            raise TrainingFailed(f"The loaded model's layer {path} holds numbers that are not finite (NaN): {MEND}")


def check_text(encode: Callable[[list[str]], Conditioning], prompt: str) -> None:
    """Raise `TrainingFailed` where the loaded text encoder gives NaN or infinity."""
    if not bool(encode([prompt]).tokens.isfinite().all()):
        raise TrainingFailed(f"The loaded text encoder gives numbers that are not finite (NaN): {MEND}")


@contextmanager
def solved() -> Iterator[None]:
    """Say in a sentence where a matrix cannot be taken apart, as it cannot where it holds NaN."""
    try:
        yield
    except torch.linalg.LinAlgError as e:
        raise TrainingFailed(f"The model's numbers cannot be solved for, some are not finite: {MEND}") from e
