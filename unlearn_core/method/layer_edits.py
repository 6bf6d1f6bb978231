"""Low-rank changes of linear layers by plain hooks: what the closed form makes and what the check looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from torch import Tensor, nn
from torch.nn import functional as F

from ..delta.layer_names import weight_of


class Student(Protocol):
    """Changes that are being learned; switched off, the host's model is the one before the request."""

    def off(self) -> AbstractContextManager[None]:
        """Without the changes, for the length of a block."""
        ...


class LayerEdits:
    """Changes B A of some layers: {path: (A `[r, in]`, B `[out, r]`)}, added to what the layers answer."""

    def __init__(self, backbone: nn.Module, paths: Iterable[str]):
        self._layers = {path: backbone.get_submodule(path) for path in paths}
        self.factors: dict[str, tuple[Tensor, Tensor]] = {}
        self._on = True

    @property
    def paths(self) -> tuple[str, ...]:
        """The layers that may be changed, in the order of their names."""
        return tuple(sorted(self._layers))

    def weight(self, path: str) -> Tensor:
        """A layer's own weight, the stack included, `[out, in]`."""
        return weight_of(self._layers[path]).detach()

    def set(self, factors: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        """Replace all changes."""
        device = {path: weight_of(self._layers[path]).device for path in factors}
        self.factors = {path: (a.to(device[path]), b.to(device[path])) for path, (a, b) in factors.items()}

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """In effect for the length of a block; the layers are as they were at the end."""
        hooks = [layer.register_forward_hook(self._hook(path)) for path, layer in self._layers.items()]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    @contextmanager
    def off(self) -> Iterator[None]:
        """Without the changes, for the length of a block."""
        before, self._on = self._on, False
        try:
            yield
        finally:
            self._on = before

    def _hook(self, path: str) -> Callable:
        def add(layer: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> Tensor | None:
            if not self._on or path not in self.factors:
                return None
            down, up = self.factors[path]
            change = F.linear(F.linear(inputs[0].to(down.dtype), down), up)
            return (out + change).to(out.dtype)

        return add
