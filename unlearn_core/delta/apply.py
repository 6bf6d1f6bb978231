"""Add a stack's changes to a model's weights and take them off again."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..errors import BadDelta, UnlearnError
from .format import Factor
from .layer_names import weight_of
from .stack import Stack

MOST_OF_LAYER, LEAST_WEIGHT = 1e3, 1e-2
"""A change may be so many times as large as the layer's own weights, which count as at least so large (RMS)."""


AT_WORK: weakref.WeakSet[nn.Module] = weakref.WeakSet()
"""Models that a block has to itself at this moment."""
DOOR = threading.Lock()


@contextmanager
def to_itself(module: nn.Module) -> Iterator[None]:
    """Keep a model to one block at a time: a second stack on top would be taken for the model's own weights.

    Raises `UnlearnError` where another block has it, in this thread or in another one.
    """
    with DOOR:
        if module in AT_WORK:
            raise UnlearnError("The model is at work: wait until its run has ended, or load the checkpoint once more.")
        AT_WORK.add(module)
    try:
        yield
    finally:
        with DOOR:
            AT_WORK.discard(module)


def check_scale(layer: str, change: Tensor, weight: Tensor) -> None:
    """Raise `BadDelta` when a change is out of all proportion to the layer's own weights, or not finite."""
    size = change.square().mean().sqrt()
    if not size <= MOST_OF_LAYER * max(LEAST_WEIGHT, float(weight.float().square().mean().sqrt())):
        raise BadDelta(
            f"A delta changes the layer {layer} by far more than its own numbers: it would only spoil the model, "
            "so remove it."
        )


@contextmanager
def applied(module: nn.Module, layers: Mapping[str, str], stack: Stack) -> Iterator[int]:
    """Add the stack's changes to the module's weights for the length of a block; yields the number of matched layers.

    layers: {name in a delta file: dotted path of a linear layer or 1x1 convolution in `module`}. Sums in float32,
    rounds once to the weight's own type. The weights keep their storage and have their own bits again afterwards,
    also after an exception. Layers of strength 0 are not touched. Raises `BadDelta` when a delta matches no
    layer or a layer has another size.
    """
    plan: dict[str, list[tuple[float, Factor]]] = {}
    for entry in stack.active:
        names = [name for name in entry.delta.factors if name in layers]
        if not names:
            raise BadDelta(
                f"No layer of '{entry.delta.label}' is in the loaded model: it would do nothing, so remove it."
            )
        for name in names:
            plan.setdefault(layers[name], []).append((entry.strength, entry.delta.factors[name]))
    originals: list[tuple[Tensor, Tensor]] = []
    try:
        with torch.no_grad():
            for path, changes in plan.items():
                weight = weight_of(module.get_submodule(path))
                total = weight.float().flatten(1)
                for strength, factor in changes:
                    if (factor.up.shape[0], factor.down.shape[1]) != total.shape:
                        raise BadDelta(
                            f"The layer {path} has another size than in the delta: load the delta's checkpoint."
                        )
                    factor = Factor(factor.down.to(weight.device), factor.up.to(weight.device), factor.alpha)
                    change = strength * factor.matrix()
                    check_scale(path, change, weight)
                    total = total + change
                originals.append((weight, weight.detach().clone()))
                weight.copy_(total.view(weight.shape))
        yield sum(map(len, plan.values()))
    finally:
        with torch.no_grad():
            # backwards, so that a weight shared by two paths ends at its first, true value
            for weight, original in reversed(originals):
                weight.copy_(original)
