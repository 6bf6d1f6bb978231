"""The base model while a stack is applied to it: what the earlier deltas add is taken off again as the layers answer.

Deltas can be switched off, so the model that never forgot anything is always at hand. It teaches what has to stay:
a chain of teachers, each a little worse than the last, would hand its errors on (CUIG, arXiv 2511.07970: collapse
follows the distance from the pre-trained weights).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layer_names import is_linear, weight_of
from .stack import Stack

FINE = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""Types that hold a change as well as they hold weights."""


class BaseModel:
    """changes: {layer's path: `[out, in]`} in the weight's own type, the sum of what the stack adds there.

    In float32 where that type is too coarse for a change (float8) or packs its numbers. One matrix a layer, so that the
    stack's height costs nothing in a step.
    """

    def __init__(self, backbone: nn.Module, layers: Mapping[str, str], stack: Stack):
        sums: dict[str, Tensor] = {}
        for entry in stack.active:
            for name, factor in entry.delta.factors.items():
                path = layers[name]
                sums[path] = sums.get(path, 0) + entry.strength * factor.matrix()
        layers_of = {path: backbone.get_submodule(path) for path in sums}
        # a 1x1 convolution's hook would need another product; no layer that learns is one
        linear = {path: weight_of(layer) for path, layer in layers_of.items() if is_linear(layer)}
        self.changes = {
            p: sums[p].to(w.device, w.dtype if w.dtype in FINE else torch.float32) for p, w in linear.items()
        }
        self._on = False

    @contextmanager
    def hooked(self, backbone: nn.Module) -> Iterator[BaseModel]:
        """Ready for `shown`, inside a session; the backbone is as it was at the end."""
        hooks = [backbone.get_submodule(p).register_forward_hook(self._without(c)) for p, c in self.changes.items()]
        try:
            yield self
        finally:
            for hook in hooks:
                hook.remove()

    @contextmanager
    def shown(self) -> Iterator[None]:
        """The base model, for the length of a block; adapters have to be off."""
        before, self._on = self._on, True
        try:
            yield
        finally:
            self._on = before

    def _without(self, change: Tensor) -> Callable:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> Tensor | None:
            if not self._on:
                return None
            return out - F.linear(inputs[0], change.to(inputs[0])).to(out.dtype)

        return hook
