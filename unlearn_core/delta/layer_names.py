"""Names of a denoiser's layers: in the original (LDM) layout, in diffusers' layout, and in delta files.

LDM numbers the UNet's blocks through, diffusers numbers them within each level. One table per shape holds
both names of every module, so that the two directions cannot disagree.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import torch
from torch import Tensor, nn

from ..errors import BadCheckpoint

KOHYA, NATIVE = "lora_unet_", "diffusion_model."
RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
ENDS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
FINGERPRINTED = ("attn2.to_k.weight", "attn2.to_q.weight")
SAMPLES = 64
MAX_BLOCKS = 256
"""Of a UNet's way down: SD1 and SD2 have 12, SDXL has 9."""


@dataclass(frozen=True)
class UNetShape:
    """What has to be known of a UNet to translate its names.

    layers_per_block: resnets in each level on the way down (one more on the way up).
    attention: for each level, finest first, whether it has transformers. SD1: `(True, True, True, False)`.
    """

    layers_per_block: int
    attention: tuple[bool, ...]

    @property
    def levels(self) -> int:
        """Number of resolutions."""
        return len(self.attention)

    @classmethod
    def from_state_dict(cls, names: Iterable[str]) -> UNetShape:
        """Read the shape off LDM names (any prefix before `input_blocks.` is allowed).

        Raises `BadCheckpoint` when they are not a UNet's names or its levels differ in length.
        """
        blocks: dict[int, set[tuple[str, str]]] = {}
        for name in names:
            if found := re.search(r"(?:^|\.)input_blocks\.(\d+)\.(\d+)\.(\w+)", name):
                blocks.setdefault(int(found[1]), set()).add((found[2], found[3]))
        downsamplers = [n for n in sorted(blocks) if ("0", "op") in blocks[n]]
        last = max(blocks, default=0)
        if last > MAX_BLOCKS:
            raise BadCheckpoint(f"This model names {last} blocks, more than any UNet has.")
        if not last:
            raise BadCheckpoint("This model has no UNet in the original layout: load a Stable Diffusion checkpoint.")
        layers = downsamplers[0] - 1 if downsamplers else last
        stride = layers + 1
        levels = len(downsamplers) + 1
        if downsamplers != [stride * i for i in range(1, levels)] or last != stride * levels - 1:
            raise BadCheckpoint("This UNet's levels differ in their number of layers, which is not supported.")
        has = [any(member == "1" for member, _ in blocks.get(n, ())) for n in range(last + 1)]
        return cls(layers, tuple(any(has[1 + stride * i : stride * (i + 1)]) for i in range(levels)))


@lru_cache(maxsize=16)
def module_names(shape: UNetShape) -> tuple[dict[str, str], dict[str, str]]:
    """({LDM prefix: diffusers prefix}, the inverse) of everything that has parameters in a UNet of this shape."""
    pairs = dict(ENDS)

    def resnet(ldm: str, diffusers: str) -> None:
        pairs.update({f"{ldm}.{a}": f"{diffusers}.{b}" for a, b in RESNET.items()})

    stride, last = shape.layers_per_block + 1, shape.levels - 1
    for level, attention in enumerate(shape.attention):
        for layer in range(shape.layers_per_block):
            block = f"input_blocks.{1 + level * stride + layer}"
            resnet(f"{block}.0", f"down_blocks.{level}.resnets.{layer}")
            if attention:
                pairs[f"{block}.1"] = f"down_blocks.{level}.attentions.{layer}"
        if level < last:
            pairs[f"input_blocks.{(level + 1) * stride}.0.op"] = f"down_blocks.{level}.downsamplers.0.conv"
    resnet("middle_block.0", "mid_block.resnets.0")
    pairs["middle_block.1"] = "mid_block.attentions.0"
    resnet("middle_block.2", "mid_block.resnets.1")
    for up, attention in enumerate(reversed(shape.attention)):
        for layer in range(stride):
            block = f"output_blocks.{up * stride + layer}"
            resnet(f"{block}.0", f"up_blocks.{up}.resnets.{layer}")
            if attention:
                pairs[f"{block}.1"] = f"up_blocks.{up}.attentions.{layer}"
        if up < last:
            member = 2 if attention else 1
            pairs[f"output_blocks.{(up + 1) * stride - 1}.{member}.conv"] = f"up_blocks.{up}.upsamplers.0.conv"
    return pairs, {b: a for a, b in pairs.items()}


def translate(name: str, table: Mapping[str, str]) -> str:
    """`name` with its longest leading module found in `table` replaced; `BadCheckpoint` when there is none."""
    cut = len(name)
    while cut > 0:
        if (other := table.get(name[:cut])) is not None:
            return other + name[cut:]
        cut = name.rfind(".", 0, cut)
    raise BadCheckpoint(f"'{name}' is not a layer of this UNet: its layout is not supported.")


def ldm_to_diffusers(name: str, shape: UNetShape) -> str:
    """`input_blocks.4.1.proj_in` -> `down_blocks.1.attentions.0.proj_in`; a trailing `.weight` or `.bias` stays.

    Raises `BadCheckpoint` for a name that a UNet of this shape does not have.
    """
    return translate(name, module_names(shape)[0])


def diffusers_to_ldm(name: str, shape: UNetShape) -> str:
    """The inverse of `ldm_to_diffusers`."""
    return translate(name, module_names(shape)[1])


def delta_name(ldm_name: str, architecture: str, shape: UNetShape | None) -> str:
    """The name that a delta file gives to a layer, chosen so that every host's LoRA loader finds it.

    shape: None for a denoiser that is no UNet; its names are written as they are.
    """
    if shape is None:
        return NATIVE + ldm_name
    # A1111 turns diffusers names back by counting two layers a block, and expects LDM names for SDXL
    if architecture in {"sd1", "sd2"} and shape.layers_per_block == 2:
        return KOHYA + ldm_to_diffusers(ldm_name, shape).replace(".", "_")
    return KOHYA + ldm_name.replace(".", "_")


def accepted_names(ldm_name: str, shape: UNetShape | None) -> tuple[str, ...]:
    """All names that LoRA files in the wild use for a layer: kohya with diffusers or LDM path, and the plain path."""
    if shape is None:
        return (NATIVE + ldm_name,)
    paths = (ldm_to_diffusers(ldm_name, shape), ldm_name)
    return (*(KOHYA + path.replace(".", "_") for path in paths), NATIVE + ldm_name)


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """16 hex digits that tell one denoiser from another, the same in every host.

    tensors: the denoiser's weights by bare LDM name. Hashed are names, shapes and 64 evenly spaced values of each
    query and key matrix of cross-attention (of every tensor where there is no such matrix), as float16: so a
    float16 file and the same file loaded in float32 agree. A bfloat16 load has lost bits and differs.
    Raises `BadCheckpoint` when there are no tensors.
    """
    names = sorted(n for n in tensors if n.endswith(FINGERPRINTED)) or sorted(tensors)
    if not names:
        raise BadCheckpoint("This model has no weights to recognise it by.")
    digest = hashlib.sha256()
    for name in names:
        values = tensors[name].detach().reshape(-1)
        count = min(SAMPLES, len(values))
        at = torch.arange(count, device=values.device) * len(values) // max(1, count)
        digest.update(f"{name} {list(tensors[name].shape)}\n".encode())
        digest.update(values[at].to(torch.float16).cpu().numpy().astype("<f2").tobytes())
    return digest.hexdigest()[:16]


def weight_of(layer: nn.Module) -> Tensor:
    """The weight of a linear layer or convolution, as the layer holds it; hosts bring layer classes of their own."""
    return cast(Tensor, layer.weight)


def is_linear(layer: nn.Module) -> bool:
    """Whether a layer multiplies by a matrix, whatever its class: hosts have their own, quantised ones too."""
    return bool(getattr(layer, "in_features", 0) and getattr(layer, "out_features", 0) and hasattr(layer, "weight"))


def linear_layers(
    backbone: nn.Module, architecture: str, shape: UNetShape | None, original: Callable[[str], str] = str
) -> dict[str, str]:
    """{name in a delta file: path inside the module} of all linear layers, the written name first.

    original: a path as the original layout has it, where the module has another.
    """
    named: dict[str, str] = {}
    for path, module in backbone.named_modules():
        if is_linear(module):
            layer = original(path)
            named |= dict.fromkeys((delta_name(layer, architecture, shape), *accepted_names(layer, shape)), path)
    return named
