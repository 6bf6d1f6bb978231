"""Networks of a checkpoint: diffusers' UNet and autoencoder, transformers' text encoders, from a file or a folder."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..delta import layer_names
from ..delta.base_sample import Base
from ..delta.layer_names import UNetShape
from ..errors import BadCheckpoint, UnlearnError
from . import text_encoders as encoders
from .checkpoint import MAX_DEPTH, MAX_LEVELS, UNET, VAE, Checkpoint, Facts, depths, level_widths, open_checkpoint
from .checkpoint import text_matrix as reads_text
from .folder import Folder
from .text_encoders import TextEncoder
from .weights import network


@dataclass(frozen=True)
class Networks:
    """All of a checkpoint in memory. base: the file's own weights as deltas know them, before any rounding."""

    facts: Facts
    base: Base
    unet: nn.Module
    vae: Any  # diffusers' AutoencoderKL
    encoders: tuple[TextEncoder, ...]


def load(path: Path, dtype: torch.dtype, prediction_type: str = "") -> Networks:
    """A `.safetensors` file or a diffusers folder; the UNet in `dtype`, the rest in float32.

    prediction_type: overrules what the checkpoint says. Raises `BadCheckpoint`, and `UnlearnError` where a package is
    missing.
    """
    check_packages()
    if path.is_dir():
        return from_folder(Folder(path), dtype, prediction_type)
    return from_checkpoint(open_checkpoint(path, prediction_type), dtype)


def check_packages() -> None:
    """Raise `UnlearnError` with what to do where diffusers or transformers is missing: hosts need not have them."""
    missing = [name for name in ("diffusers", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        names = " ".join(missing)
        raise UnlearnError(f"Checkpoint files cannot be read without {' and '.join(missing)}: pip install {names}")


def from_checkpoint(checkpoint: Checkpoint, dtype: torch.dtype) -> Networks:
    """Networks with a file's weights. Raises `BadCheckpoint` when they do not fit together."""
    weights, facts = checkpoint.weights, checkpoint.facts
    text = encoders.from_checkpoint(checkpoint)
    settings = unet_settings(weights, facts)
    check_text(text, settings["cross_attention_dim"])
    unet = build_unet(settings, part(weights, UNET), facts.shape, dtype)
    vae = build_vae(vae_settings(weights, facts), part(weights, VAE))
    return Networks(facts, Base.of(part(weights, UNET)), unet, vae, text)


def part(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under a prefix, without it."""
    return {n.removeprefix(prefix): t for n, t in weights.items() if n.startswith(prefix)}


def check_text(text: tuple[TextEncoder, ...], width: int) -> None:
    """Raise `BadCheckpoint` where the UNet reads text of another width than the encoders write."""
    found = [e.model.config.hidden_size for e in text]
    if sum(found) != width:
        raise BadCheckpoint(
            f"The checkpoint's UNet reads text of width {width}, but its text encoders write "
            f"{' + '.join(map(str, found))}: they do not belong together, so use the original file."
        )


def build_unet(
    settings: dict[str, Any], weights: Mapping[str, Tensor], shape: UNetShape, dtype: torch.dtype
) -> nn.Module:
    """The UNet of weights in the original layout. Raises `BadCheckpoint` when they do not fit it."""
    from diffusers import UNet2DConditionModel

    state = {}
    for name, t in weights.items():
        try:
            state[layer_names.ldm_to_diffusers(name, shape)] = t
        except BadCheckpoint:
            state[name] = t  # `network` tells of it
    original = partial(original_unet_name, shape=shape)
    return network(lambda: UNet2DConditionModel.from_config(settings), state, dtype, "The checkpoint's UNet", original)


def original_unet_name(name: str, shape: UNetShape) -> str:
    """A name inside diffusers' UNet as the file has it, also where the file has one of its own."""
    try:
        return layer_names.diffusers_to_ldm(name, shape)
    except BadCheckpoint:
        return name


VAE_NAMES = (
    (r"^encoder\.down_blocks\.(\d+)\.resnets\.(\d+)", r"encoder.down.\1.block.\2"),
    (r"^encoder\.down_blocks\.(\d+)\.downsamplers\.0", r"encoder.down.\1.downsample"),
    (r"\bmid_block\.resnets\.0", "mid.block_1"),
    (r"\bmid_block\.resnets\.1", "mid.block_2"),
    (r"\bmid_block\.attentions\.0\.group_norm", "mid.attn_1.norm"),
    (r"\bmid_block\.attentions\.0\.to_([qkv])", r"mid.attn_1.\1"),
    (r"\bmid_block\.attentions\.0\.to_out\.0", "mid.attn_1.proj_out"),
    (r"\bconv_norm_out\b", "norm_out"),
    (r"\bconv_shortcut\b", "nin_shortcut"),
)
VAE_OTHER_NAMES = ((r"\battn_1\.to_([qkv])\.", r"attn_1.\1."), (r"\battn_1\.to_out\.0\.", "attn_1.proj_out."))
"""Names of attention that files have which were converted back from diffusers' layout."""
VAE_UNUSED = ("loss.", "model_ema.")
"""What autoencoders keep from their training."""


def original_vae_name(name: str, levels: int) -> str:
    """A name inside diffusers' autoencoder as the original layout has it, which counts the way up from its end."""
    if found := re.match(r"decoder\.up_blocks\.(\d+)\.(?:resnets\.(\d+)|upsamplers\.0)", name):
        inner = "upsample" if found[2] is None else f"block.{found[2]}"
        name = f"decoder.up.{levels - 1 - int(found[1])}.{inner}{name[found.end() :]}"
    for theirs, original in VAE_NAMES:
        name = re.sub(theirs, original, name)
    return name


def build_vae(settings: dict[str, Any], weights: Mapping[str, Tensor]) -> Any:
    """The autoencoder of weights in the original layout, in float32. Raises `BadCheckpoint` when they do not fit it."""
    from diffusers import AutoencoderKL

    with torch.device("meta"):
        shapes = {n: t.shape for n, t in AutoencoderKL.from_config(settings).state_dict().items()}
    levels = len(settings["block_out_channels"])
    names = {original_vae_name(n, levels): n for n in shapes}
    state = {}
    for name, t in weights.items():
        if name.startswith(VAE_UNUSED):
            continue
        for theirs, original in VAE_OTHER_NAMES:
            name = re.sub(theirs, original, name)
        own = names.get(name, name)
        # attention's matrices were 1x1 convolutions
        square = own in shapes and t.dim() == 4 and len(shapes[own]) == 2 and t.shape[2:] == (1, 1)
        state[own] = t.flatten(1) if square else t
    return network(
        lambda: AutoencoderKL.from_config(settings),
        state,
        torch.float32,
        "The checkpoint's autoencoder (VAE)",
        lambda n: original_vae_name(n, levels),
    )


def unet_settings(weights: Mapping[str, Tensor], facts: Facts) -> dict[str, Any]:
    """diffusers' configuration of a UNet, its sizes read off the weights."""
    shape, widths = facts.shape, level_widths(weights, facts.shape)
    layers = level_depths(weights, shape)
    keyed = reads_text(weights)
    if not keyed or weights[keyed].dim() != 2:
        raise BadCheckpoint("This UNet does not read text, which is not supported.")
    settings = {
        "in_channels": 4,
        "out_channels": 4,
        "sample_size": facts.pixels // 8,
        "block_out_channels": widths,
        "layers_per_block": shape.layers_per_block,
        "down_block_types": ["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in shape.attention],
        "up_block_types": ["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(shape.attention)],
        "attention_head_dim": list(facts.heads),
        "cross_attention_dim": weights[keyed].shape[1],
        "transformer_layers_per_block": [max(1, n) for n in layers],
        "use_linear_projection": weights[UNET + "middle_block.1.proj_in.weight"].dim() == 2,
    }
    if facts.architecture == "sdxl":
        labels = weights[UNET + "label_emb.0.0.weight"].shape[1]
        settings |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": (labels - encoders.pooled_width(weights)) // 6,
            "projection_class_embeddings_input_dim": labels,
        }
    return settings


def level_depths(weights: Mapping[str, Tensor], shape: UNetShape) -> list[int]:
    """Transformer layers in the blocks of each level, finest first, the middle's where the last level has none.

    Raises `BadCheckpoint` where the blocks of a level differ, as in SSD-1B, or the middle has none.
    """
    stride, middle = shape.layers_per_block + 1, depths(weights, "middle_block.1")
    if not middle:
        raise BadCheckpoint("This UNet does not read text in its middle (a distilled model), which is not supported.")
    found = []
    for level, attention in enumerate(shape.attention):
        down = [1 + level * stride + i for i in range(shape.layers_per_block)]
        up = [(shape.levels - 1 - level) * stride + i for i in range(stride)]
        there = {depths(weights, f"input_blocks.{n}.1") for n in down}
        there |= {depths(weights, f"output_blocks.{n}.1") for n in up}
        last = level == shape.levels - 1
        if len(there) > 1 or max(there) > MAX_DEPTH or (last and attention and there != {middle}):
            raise BadCheckpoint(
                "This UNet's blocks differ in depth (a distilled model like SSD-1B), or some are missing, which is not "
                "supported: use the checkpoint that it was made from."
            )
        # where the last level has no attention, diffusers reads the middle's depth there
        found.append(middle if last else there.pop())
    return found


def vae_settings(weights: Mapping[str, Tensor], facts: Facts) -> dict[str, Any]:
    """diffusers' configuration of an autoencoder, its sizes read off the weights."""
    decoder = VAE + "decoder.up."
    found = {n.removeprefix(decoder).split(".")[0] for n in weights if n.startswith(decoder)}
    blocks = {n.split(".")[0] for n in part(weights, decoder + "0.block.")}
    firsts = [f"{decoder}{i}.block.0.conv1.weight" for i in range(len(found))]
    lacking = [n for n in firsts if n not in weights]
    if lacking or not 1 <= len(found) <= MAX_LEVELS or not 2 <= len(blocks) <= MAX_LEVELS:
        raise BadCheckpoint(
            f"The checkpoint's autoencoder (VAE) is incomplete or of an unknown build: {(lacking or [decoder])[0]} "
            "missing; copy or download it again."
        )
    levels, widths = len(found), [weights[n].shape[0] for n in firsts]
    return {
        "in_channels": 3,
        "out_channels": 3,
        "block_out_channels": widths,
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "layers_per_block": len(blocks) - 1,
        "latent_channels": weights[VAE + "post_quant_conv.weight"].shape[0],
        "sample_size": 512,
        "scaling_factor": facts.scale_factor,
    }


def from_folder(folder: Folder, dtype: torch.dtype, prediction_type: str = "") -> Networks:
    """Networks of a folder as diffusers saves its pipelines. Raises `BadCheckpoint`."""
    facts, unet_config, vae_config = folder.facts(prediction_type)
    text = folder.encoders(facts.architecture)
    check_text(text, unet_config["cross_attention_dim"])
    unet, base = folder.unet(unet_config, facts.shape, dtype)
    return Networks(facts, base, unet, folder.vae(vae_config), text)
