"""The numbers that a loaded MODEL multiplies by: unpacked, and with the patches that ComfyUI adds only in a pass."""

from __future__ import annotations

import comfy.lora
import comfy.model_management as memory
import torch
from torch import Tensor, nn

from ..unlearn_core import BadCheckpoint
from ..unlearn_core.delta.layer_names import is_linear

try:
    from comfy.quant_ops import QuantizedTensor
except ImportError:
    QuantizedTensor = None

PREFIX = "diffusion_model."
WHOLE = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""Types in which a layer's weight is the number that it multiplies by."""


def true_weight(model, path: str) -> Tensor:
    """What a linear layer of a MODEL multiplies by, `[out, in]`: unpacked, its patches on it, loaded or not.

    The layer's own tensor where that holds it; else float32, without the rounding that ComfyUI makes anew with each
    patch. path: inside the diffusion model.
    """
    layer, key = model.model.diffusion_model.get_submodule(path), f"{PREFIX}{path}.weight"
    # a training has put itself around the layer
    layer = getattr(layer, "base_layer", layer)
    weight, patches, baked = layer.weight, model.patches.get(key, []), key in model.backup
    wrappers = getattr(model, "weight_wrapper_patches", {}).get(key, [])
    if is_plain(weight) and weight.dtype in WHOLE and not wrappers and (baked or not patches):
        return weight
    with torch.no_grad():
        if is_ggml(layer):
            found = layer.get_weight(weight.to(model.load_device), torch.float32)
            patches = [] if baked or getattr(weight, "patches", []) else patches
        else:
            found = unpacked(layer, model.backup[key].weight if baked else weight, model.load_device)
        if patches:
            found = comfy.lora.calculate_weight(patches, found, key)
        for wrapper in wrappers:
            found = wrapper(found)
    return found


def unpacked(layer: nn.Module, weight: Tensor, device: torch.device) -> Tensor:
    """A layer's weight in float32, a copy."""
    if hasattr(layer, "_v") and is_plain(weight):
        # paged: the file's own numbers, which a pass reads in this type
        weight = weight.to(getattr(layer, "weight_comfy_model_dtype", None) or weight.dtype)
    found = memory.cast_to_device(weight, device, torch.float32, copy=True)
    convert = getattr(layer, "convert_weight", None)
    return convert(found, inplace=True) if convert else found


def original_weights(model) -> dict[str, Tensor]:
    """The denoiser's weights by bare name, as the file has them: without patches that are baked in while loaded."""
    network = model.model.diffusion_model
    weights: dict[str, Tensor] = {PREFIX + k: v for k, v in network.state_dict().items()}
    for key, kept in model.backup.items():
        if is_quantised(kept.weight):
            weights |= kept.weight.state_dict(key)
        elif key in weights:
            weights[key] = kept.weight
    for path, layer in network.named_modules():
        if is_ggml(layer):
            # its state is made up
            own = layer.named_parameters(recurse=False)
            weights |= {f"{PREFIX}{path}.{name}": t.data.as_subclass(Tensor) for name, t in own}
            weights.pop(f"{PREFIX}{path}.temp.weight", None)
    # what the file lacks is zeros once it is used
    return {k.removeprefix(PREFIX): torch.zeros(()).expand(v.shape) if v.is_meta else v for k, v in weights.items()}


def scales_of(model) -> dict[str, float | None]:
    """{bare name of a weight: what its numbers are multiplied with}; None where each block has a scale of its own."""
    found: dict[str, float | None] = {}
    for path, layer in model.model.diffusion_model.named_modules():
        name, weight = f"{path}.weight", getattr(layer, "weight", None)
        if (kept := model.backup.get(PREFIX + name)) is not None:
            weight = kept.weight
        scale = weight._params.scale if is_quantised(weight) else getattr(layer, "scale_weight", None)
        if scale is not None:
            found[name] = float(scale) if scale.numel() == 1 else None
    return found


def check_readable(model) -> None:
    """Raise `BadCheckpoint` where a linear layer's weight is packed and neither ComfyUI nor its class unpacks it."""
    for path, layer in model.model.diffusion_model.named_modules():
        if not is_linear(layer) or is_ggml(layer) or is_quantised(layer.weight):
            continue
        weight, shape = layer.weight, (layer.out_features, layer.in_features)
        if not (is_plain(weight) and weight.is_floating_point() and weight.shape == shape):
            raise BadCheckpoint(
                f"The MODEL's weights are packed in a form that is not known here ({type(weight).__name__} in {path}): "
                "load this checkpoint as .safetensors with ComfyUI's own loaders, or as GGUF with ComfyUI-GGUF."
            )


def is_plain(weight: object) -> bool:
    """Whether a weight is an ordinary tensor, and no class that packs its numbers."""
    return type(weight) in (Tensor, nn.Parameter)


def is_quantised(weight: object) -> bool:
    """Whether a weight is of ComfyUI's own class for quantised ones (`comfy_quant`)."""
    return bool(QuantizedTensor) and isinstance(weight, QuantizedTensor)


def is_ggml(layer: nn.Module) -> bool:
    """Whether a layer is one of ComfyUI-GGUF's, which unpacks its own weight."""
    weight = getattr(layer, "weight", None)
    return hasattr(weight, "tensor_type") and hasattr(weight, "tensor_shape") and hasattr(layer, "get_weight")


def not_paged(model):
    """The MODEL, or with dynamic VRAM one of its kind that is loaded as a whole, where ComfyUI can make it."""
    if not (hasattr(model, "is_dynamic") and model.is_dynamic()):
        return model
    try:
        whole = model.clone(disable_dynamic=True)
    except (RuntimeError, TypeError, OSError):
        # not made by a loader, or its file is gone: weights are read through their patches all the same
        return model
    as_made_for(whole.model)
    return whole


def as_made_for(module: nn.Module) -> None:
    """Bring each plain weight to the type that its layer was made for.

    While dynamic VRAM is on, ComfyUI's layers take the numbers as the file has them. Only its own loading mends that.
    """
    for m in module.modules():
        for name, p in m._parameters.items():
            kind = getattr(m, f"{name}_comfy_model_dtype", None)
            if p is not None and is_plain(p) and p.is_floating_point() and kind not in (None, p.dtype):
                m._parameters[name] = nn.Parameter(p.to(kind), requires_grad=False)
