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

from .format import Factor
from .layer_names import is_linear, weight_of
from .stack import Stack

FINE = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""Types that hold a change as well as they hold weights."""


WHOLE = 2**20
"""Numbers of a change up to which it is kept as one matrix, with which the stack's height costs nothing in a step."""
LOW = 4
"""A larger one is kept as its factors where these take so many times less: of all layers of a large model the matrices
take gigabytes."""

Kept = tuple[Tensor, ...]
"""A change as a hook multiplies by it: its matrix `[out, in]`, or factors `[rank, in]` and `[out, rank]`."""


class Changes(Mapping[str, Tensor]):
    """{layer's path: `[out, in]`} in the weight's own type, the sum of what a stack adds there.

    In float32 where that type is too coarse for a change (float8) or packs its numbers. A large one is formed each time
    that it is asked for, and nothing holds it afterwards.
    """

    def __init__(self, backbone: nn.Module, layers: Mapping[str, str], stack: Stack):
        parts: dict[str, list[tuple[float, Factor]]] = {}
        for entry in stack.active:
            for name, factor in entry.delta.factors.items():
                parts.setdefault(layers[name], []).append((entry.strength, factor))
        layers_of = {path: backbone.get_submodule(path) for path in parts}
        # a 1x1 convolution's hook would need another product; no layer that learns is one
        linear = {path: weight_of(layer) for path, layer in layers_of.items() if is_linear(layer)}
        self._parts = {path: parts[path] for path in linear}
        self._types = {p: (w.device, w.dtype if w.dtype in FINE else torch.float32) for p, w in linear.items()}
        self.kept: dict[str, Kept] = {path: self._factors(path) or (self._matrix(path),) for path in linear}

    def __getitem__(self, path: str) -> Tensor:
        matrix, *others = self.kept[path]
        return self._matrix(path) if others else matrix

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def _matrix(self, path: str) -> Tensor:
        (strength, factor), *rest = self._parts[path]
        total = strength * factor.matrix()
        for strength, factor in rest:
            total = total + strength * factor.matrix()
        return total.to(*self._types[path])

    def _factors(self, path: str) -> Kept:
        """Those of all deltas side by side, in float32; () where their matrix is small or not much larger."""
        parts, (device, _) = self._parts[path], self._types[path]
        size, sides = parts[0][1].size, sum(f.down.numel() + f.up.numel() for _, f in parts)
        if size <= WHOLE or LOW * sides > size:
            return ()
        up = torch.cat([strength * f.scale * f.up.float() for strength, f in parts], 1)
        return torch.cat([f.down.float() for _, f in parts]).to(device), up.to(device)


class BaseModel:
    """changes: all that the stack adds to the backbone's linear layers. The hooks take it off again."""

    def __init__(self, backbone: nn.Module, layers: Mapping[str, str], stack: Stack):
        self.changes = Changes(backbone, layers, stack)
        self._on = False

    @contextmanager
    def hooked(self, backbone: nn.Module) -> Iterator[BaseModel]:
        """Ready for `shown`, inside a session; the backbone is as it was at the end."""
        kept = self.changes.kept.items()
        hooks = [backbone.get_submodule(path).register_forward_hook(self._without(change)) for path, change in kept]
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

    def _without(self, change: Kept) -> Callable:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> Tensor | None:
            if not self._on:
                return None
            moved = inputs[0]
            for matrix in change:
                moved = F.linear(moved, matrix.to(moved))
            return out - moved.to(out.dtype)

        return hook
