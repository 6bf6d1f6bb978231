"""peft adapters on a host's module: attach, switch, detach. The only file that knows peft."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..delta.layer_names import is_linear
from ..errors import UnlearnError

NAME = "unlearn"


class Adapters:
    """LoRA pairs on some linear layers of a backbone; `factors`: {layer's path: (A `[r, in]`, B `[out, r]`)}."""

    def __init__(self, backbone: nn.Module, paths: Sequence[str], read: Callable[[str], Tensor] | None = None):
        """read: see `LayerEdits`."""
        # peft's own layers: their type is only there once peft is
        self._layers: dict[str, Any] = {path: backbone.get_submodule(path) for path in paths}
        self._read = read
        self.factors: dict[str, tuple[nn.Parameter, nn.Parameter]] = {
            path: (layer.lora_A[NAME].weight, layer.lora_B[NAME].weight) for path, layer in self._layers.items()
        }

    def switch(self, on: bool) -> None:
        """On is the student, off the model before the request: the same weights told apart by the adapters alone."""
        for layer in self._layers.values():
            layer.enable_adapters(on)

    @contextmanager
    def off(self) -> Iterator[None]:
        """The model before the request, for the length of a block."""
        self.switch(False)
        try:
            yield
        finally:
            self.switch(True)

    def alike(self, paths: Iterable[str]) -> Iterator[tuple[list[str], Tensor, Tensor]]:
        """(paths, A `[layers, r, in]`, B `[layers, out, r]`) of those layers that have one shape.

        A hundred small products, one after the other, keep a card waiting longer than they take.
        """
        groups: dict[tuple, list[str]] = {}
        for path in paths:
            groups.setdefault(tuple(f.shape for f in self.factors[path]), []).append(path)
        for members in groups.values():
            downs, ups = zip(*(self.factors[p] for p in members), strict=True)
            yield members, torch.stack(downs), torch.stack(ups)

    def pair(self, path: str) -> tuple[Tensor, Tensor]:
        """Copies of one layer's factors on the CPU: A `[r, in]`, B `[out, r]`."""
        down, up = self.factors[path]
        return down.detach().float().cpu().clone(), up.detach().float().cpu().clone()

    def start(self, path: str, down: Tensor, up: Tensor) -> None:
        """Set one layer's factors, of at most its rank."""
        a, b = self.factors[path]
        with torch.no_grad():
            a[: len(down)].copy_(down)
            b.zero_()[:, : len(down)].copy_(up)

    def weight(self, path: str) -> Tensor:
        """A layer's own weight, the stack included, `[out, in]`."""
        return (self._read(path) if self._read else self._layers[path].base_layer.weight).detach()

    def parameters(self) -> list[nn.Parameter]:
        """What is learned."""
        return [p for pair in self.factors.values() for p in pair]


class Average:
    """Running mean of the factors over the last steps: what is checked and kept, less noisy than the last step."""

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float):
        self._parameters, self._decay, self._step = list(parameters), decay, 0
        self.means = [p.detach().clone() for p in self._parameters]

    def go_on_from(self, step: int) -> None:
        """So many steps were taken in before."""
        self._step = step

    @torch.no_grad()
    def update(self) -> None:
        """Take in the current values; the first ones weigh little."""
        self._step += 1
        decay = min(self._decay, self._step / (self._step + 5))
        for mean, p in zip(self.means, self._parameters, strict=True):
            mean.lerp_(p, 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the current values and the mean."""
        for mean, p in zip(self.means, self._parameters, strict=True):
            kept = p.detach().clone()
            p.copy_(mean)
            mean.copy_(kept)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """The mean in place of the current values, for the length of a block."""
        self.swap()
        try:
            yield
        finally:
            self.swap()


def peft_parts() -> tuple:
    """What is used of peft; raises `UnlearnError` with what to do when it is not there."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
        from peft.tuners.tuners_utils import BaseTunerLayer
    except ImportError as e:
        raise UnlearnError(
            f"The package peft is missing or does not fit this host ({e}); install it with: "
            f'"{sys.executable}" -m pip install --no-deps peft'
        ) from e
    return LoraConfig, inject_adapter_in_model, BaseTunerLayer


def also_beside(config: Any, layers: Iterable[nn.Module]) -> None:
    """Let peft put adapters beside layers of a host's own class, as beside torch's linear layers.

    Raises `UnlearnError` where the installed peft knows no other classes.
    """
    if not (kinds := {type(layer) for layer in layers if is_linear(layer) and not isinstance(layer, nn.Linear)}):
        return
    try:
        from peft.tuners.lora import Linear

        config._register_custom_module(dict.fromkeys(kinds, Linear))
    except (ImportError, AttributeError) as e:
        raise UnlearnError(
            f"This model's layers are of a class that the installed peft cannot train ({e}): install a newer peft."
        ) from e


def begin(layer: Any, generator: torch.Generator, device: torch.device | None) -> None:
    """Give a layer of peft's factors of zero effect in float32; peft makes them like the weight, whatever that is."""
    down, up = layer.lora_A[NAME], layer.lora_B[NAME]
    device = device or down.weight.device
    start = torch.randn(down.weight.shape, generator=generator) / down.weight.shape[1] ** 0.5
    down.weight, up.weight = nn.Parameter(start.to(device)), nn.Parameter(torch.zeros(up.weight.shape, device=device))


@contextmanager
def attached(
    backbone: nn.Module,
    paths: Sequence[str],
    rank: int | Mapping[str, int],
    seed: int,
    device: torch.device | None = None,
    read: Callable[[str], Tensor] | None = None,
) -> Iterator[Adapters]:
    """Adapters of zero effect (B = 0, A random, scale alpha / rank = 1) in float32; removed without a trace at the end.

    rank: of all of them, or {path: its own}. device: where the layers are used, if it is not where their weights are
    kept. read: see `LayerEdits`. Raises `UnlearnError` when peft is missing or cannot adapt one of the layers.
    """
    LoraConfig, inject_adapter_in_model, BaseTunerLayer = peft_parts()
    flags = {id(p): (p, p.requires_grad) for p in backbone.parameters()}
    extras = set(vars(backbone))
    modes = [(m, m.training) for m in backbone.modules()]
    generator = torch.Generator().manual_seed(seed)
    try:
        pattern = "|".join(re.escape(path) for path in paths)
        ranks = dict(rank) if isinstance(rank, Mapping) else dict.fromkeys(paths, rank)
        least = min(ranks.values(), default=1)
        own = {path: r for path, r in ranks.items() if r > least}
        config = LoraConfig(
            r=least,
            lora_alpha=least,
            rank_pattern=own,
            alpha_pattern=dict(own),
            target_modules=rf"({pattern})",
            lora_dropout=0.0,
        )
        also_beside(config, map(backbone.get_submodule, paths))
        try:
            with warnings.catch_warnings():
                # of classes that it does not know by name
                warnings.filterwarnings("ignore", "Unsupported layer type", UserWarning)
                inject_adapter_in_model(config, backbone, NAME)
        except ValueError as e:
            raise UnlearnError(f"These layers cannot be adapted by the installed peft: {e}") from e
        for path in paths:
            begin(backbone.get_submodule(path), generator, device)
        yield Adapters(backbone, paths, read)
    finally:
        for path, layer in [(n, m) for n, m in backbone.named_modules() if isinstance(m, BaseTunerLayer)]:
            parent, _, child = path.rpartition(".")
            setattr(backbone.get_submodule(parent), child, layer.base_layer)
        for name in set(vars(backbone)) - extras:
            delattr(backbone, name)
        for parameter, flag in flags.values():
            parameter.requires_grad_(flag)
        for module, mode in modes:
            module.training = mode
