"""A MODEL that is on its device, with its patches, in every pass of a session, whatever ComfyUI makes room for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import comfy.model_management as memory
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from .weights import is_plain, is_quantised


class Loaded:
    """A loaded MODEL whose weights are ordinary tensors, which autograd takes.

    ComfyUI makes room for a text encoder or an autoencoder by taking a MODEL off its device, in part or as a whole.
    As a whole its patches go too, and only its own samplers bring both back.
    """

    def __init__(self, model, beside):
        """beside: what is loaded together with it, so that reading prompts later need not push the MODEL out."""
        self._models = [model, beside]
        self._network = model.model.diffusion_model
        self._aliases = Aliases(self._network)
        self._size = 0
        self._bring()

    @contextmanager
    def ordinary(self) -> Iterator[nn.Module]:
        """The denoiser as autograd takes it, for the length of a session; the same objects are in it afterwards."""
        try:
            self._aliases.put()
            yield self._network
        finally:
            self._aliases.take_off()

    def ready(self) -> None:
        """Before a pass: bring back what ComfyUI has taken off."""
        if not self._is_whole():
            self._aliases.take_off()
            self._bring()
            self._aliases.put()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """While prompts are read, for which ComfyUI may take the MODEL off."""
        with as_executed(), unwrapped(self._network):
            yield

    @contextmanager
    def decoding(self) -> Iterator[None]:
        """While pictures are decoded, which needs the most memory: what ComfyUI takes off has to free it."""
        self._aliases.take_off()
        try:
            with self.reading():
                yield
        finally:
            self._aliases.put()

    def _is_whole(self) -> bool:
        """Whether the MODEL is still on its device as it was brought there."""
        model = self._models[0]
        held = any(loaded.model is model for loaded in memory.current_loaded_models)
        return held and model.model.model_loaded_weight_memory >= self._size

    def _bring(self) -> None:
        with unwrapped(self._network):
            load(self._models)
        self._size = self._models[0].model.model_loaded_weight_memory


@contextmanager
def as_executed() -> Iterator[None]:
    """The modes of torch in which ComfyUI runs its nodes, for the length of a block that may move weights.

    It makes them in inference mode. Moved outside of it they would belong to neither mode, and layers would refuse them
    in both. A session's watch over changes in place knows no tensors of that mode.
    """
    with torch.inference_mode(), _disable_current_modes():
        yield


def load(models: Sequence) -> None:
    """Bring models to their devices together: as a whole where a device holds them, else as ComfyUI sees fit."""
    needed: dict[torch.device, float] = {}
    for model in models:
        # once for the passes, and once for what ComfyUI wants to be free when it is asked for the CLIP again
        known = needed.get(model.load_device, 2 * memory.minimum_inference_memory())
        needed[model.load_device] = known + model.model_size()
    fits = all(size < memory.get_total_memory(device) for device, size in needed.items() if device.type != "cpu")
    with as_executed():
        memory.load_models_gpu(list(models), force_full_load=fits)


@contextmanager
def unwrapped(network: nn.Module) -> Iterator[None]:
    """The network without what a training has put around its layers: ComfyUI finds weights by their paths."""
    wrapped = []
    # which peft leaves there for as long as its layers are in it
    if hasattr(network, "peft_config"):
        tables = [module._modules for module in network.modules()]
        wrapped = [(table, name, layer) for table in tables for name, layer in table.items() if is_wrapper(layer)]
    for table, name, layer in wrapped:
        table[name] = layer.base_layer
    try:
        yield
    finally:
        for table, name, layer in wrapped:
            table[name] = layer


def is_wrapper(layer: nn.Module | None) -> bool:
    """Whether there is a layer inside, which a training has put itself around."""
    return layer is not None and "base_layer" in layer._modules


class Aliases:
    """Ordinary tensors in place of a module's parameters and buffers that autograd would refuse.

    Tensors of classes that are not known stay: their layers make ordinary ones of them in every pass. What ComfyUI has
    replaced or moved meanwhile, to make room, stays as well.
    """

    def __init__(self, module: nn.Module):
        self._module = module
        self._replaced: list[tuple[dict, str, Tensor, Tensor]] = []

    def put(self) -> None:
        """Put them in."""
        for m in self._module.modules():
            for table in (m._parameters, m._buffers):
                for name, t in table.items():
                    if t is not None and t.is_inference() and (is_plain(t) or is_quantised(t)):
                        new = alias(t)
                        if table is m._parameters:
                            new = nn.Parameter(new, requires_grad=False)
                            # what ComfyUI has noted on it
                            new.__dict__.update(vars(t) if is_plain(t) else {})
                        table[name] = new
                        self._replaced.append((table, name, t, new))

    def take_off(self) -> None:
        """Put the same objects back."""
        for table, name, t, new in self._replaced:
            if table[name] is new and new.device == t.device:
                table[name] = t
        self._replaced = []


def alias(t: Tensor) -> Tensor:
    """An ordinary tensor on the storage of one made in inference mode, which autograd would refuse."""
    if is_quantised(t):
        names, facts = t.__tensor_flatten__()
        parts = {name: alias(getattr(t, name)) for name in names}
        return type(t).__tensor_unflatten__(parts, facts, t.shape, t.stride())
    return torch.empty(0, dtype=t.dtype, device=t.device).set_(
        t.untyped_storage(), t.storage_offset(), t.size(), t.stride()
    )
