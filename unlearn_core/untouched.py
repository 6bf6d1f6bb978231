"""The base model while a stack is applied to it: what the earlier deltas add is taken off again as the layers answer.

Deltas can be switched off, so the model that never forgot anything is always at hand. It teaches what has to stay:
a chain of teachers, each a little worse than the last, would hand its errors on (CUIG, arXiv 2511.07970: collapse
follows the distance from the pre-trained weights).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .stack import Stack


class Untouched:
    """changes: {layer's path: (A `[R, in]`, B `[out, R]`)}, all that the stack adds there, strengths included."""

    def __init__(self, backbone: nn.Module, layers: Mapping[str, str], stack: Stack):
        parts: dict[str, list[tuple[Tensor, Tensor]]] = {}
        for entry in stack.active:
            for name, f in entry.delta.factors.items():
                up = f.up.float() * (entry.strength * f.scale)
                parts.setdefault(layers[name], []).append((f.down.float(), up))
        self.changes: dict[str, tuple[Tensor, Tensor]] = {}
        for path, pairs in parts.items():
            weight = backbone.get_submodule(path).weight
            if weight.dim() == 2:
                down, up = torch.cat([d for d, _ in pairs]), torch.cat([u for _, u in pairs], 1)
                self.changes[path] = down.to(weight.device), up.to(weight.device)
        self._on = False

    @contextmanager
    def hooked(self, backbone: nn.Module) -> Iterator[Untouched]:
        """Ready for `shown`, inside a session; the backbone is as it was at the end."""
        hooks = [backbone.get_submodule(p).register_forward_hook(self._without(*c)) for p, c in self.changes.items()]
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

    def _without(self, down: Tensor, up: Tensor):
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> Tensor | None:
            if not self._on:
                return None
            added = F.linear(F.linear(inputs[0], down.to(inputs[0].dtype)), up.to(inputs[0].dtype))
            return out - added.to(out.dtype)

        return hook
