"""Low-rank changes of linear layers by plain hooks: what the closed form makes and what the check looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, cast

from torch import Tensor, nn
from torch.nn import functional as F

from ..delta.layer_names import weight_of


class Student(Protocol):
    """Changes that are being learned; switched off, the host's model is the one before the request."""

    @property
    def factors(self) -> Mapping[str, tuple[Tensor, Tensor]]:
        """{path: (A, B)} of what is on the layers."""
        ...

    def off(self) -> AbstractContextManager[None]:
        """Without the changes, for the length of a block."""
        ...


class Weights(Mapping[str, Tensor]):
    """{path: weight}, each read when it is asked for: unpacked, all of them at once may not fit into the memory."""

    def __init__(self, paths: Sequence[str], read: Callable[[str], Tensor]):
        self._paths, self._read = tuple(paths), read

    def __getitem__(self, path: str) -> Tensor:
        if path not in self._paths:
            raise KeyError(path)
        return self._read(path)

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)


class LayerEdits:
    """Changes B A of some layers: {path: (A `[r, in]`, B `[out, r]`)}, added to what the layers answer.

    read: gives a layer's weight by its path, where the layer itself does not hold it as it is used (see `PackedHost`).
    """

    def __init__(self, backbone: nn.Module, paths: Iterable[str], read: Callable[[str], Tensor] | None = None):
        self._layers = {path: backbone.get_submodule(path) for path in paths}
        self._read = read or (lambda path: weight_of(self._layers[path]))
        self.factors: dict[str, tuple[Tensor, Tensor]] = {}
        self._on = True

    @property
    def paths(self) -> tuple[str, ...]:
        """The layers that may be changed, in the order of their names."""
        return tuple(sorted(self._layers))

    def weight(self, path: str) -> Tensor:
        """A layer's own weight, the stack included, `[out, in]`."""
        return self._read(path).detach()

    def weights(self, paths: Sequence[str]) -> Weights:
        """The weights of some layers."""
        return Weights(paths, self.weight)

    def width(self, path: str) -> int:
        """How many numbers a layer reads."""
        return cast(int, self._layers[path].in_features)

    def set(self, factors: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        """Replace all changes."""
        self.factors = dict(factors)

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
            if down.device != out.device:
                # not the weight's device: hosts bring weights to where they are used
                down, up = self.factors[path] = down.to(out.device), up.to(out.device)
            change = F.linear(F.linear(inputs[0].to(down.dtype), down), up)
            return (out + change).to(out.dtype)

        return add
