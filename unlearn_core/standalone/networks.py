"""Networks of a checkpoint: diffusers' UNet and autoencoder, transformers' text encoders, from a file or a folder."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..delta import layer_names
from ..delta.layer_names import UNetShape
from ..errors import BadCheckpoint, UnlearnError
from . import text_encoders as encoders
from .checkpoint import (
    BETAS,
    SCALE_FACTOR,
    UNET,
    VAE,
    Checkpoint,
    Facts,
    depths,
    level_widths,
    open_checkpoint,
    trained_pixels,
)
from .text_encoders import TextEncoder


@dataclass(frozen=True)
class Networks:
    """All of a checkpoint in memory. fingerprint: of the file's own weights, before any rounding."""

    facts: Facts
    fingerprint: str
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
        return from_folder(path, dtype, prediction_type)
    return from_checkpoint(open_checkpoint(path, prediction_type), dtype)


def check_packages() -> None:
    """Raise `UnlearnError` with what to do where diffusers or transformers is missing: hosts need not have them."""
    missing = [name for name in ("diffusers", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        names = " ".join(missing)
        raise UnlearnError(f"Checkpoint files cannot be read without {' and '.join(missing)}: pip install {names}")


def from_checkpoint(checkpoint: Checkpoint, dtype: torch.dtype) -> Networks:
    """Networks with a file's weights. Raises `BadCheckpoint` when they do not fit together."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from diffusers.loaders import single_file_utils as ldm

    weights, facts = checkpoint.weights, checkpoint.facts
    text = encoders.from_checkpoint(checkpoint)
    settings = (unet_settings(weights, facts), vae_settings(weights, facts))
    unet = build(UNet2DConditionModel, settings[0], ldm.convert_ldm_unet_checkpoint, part(weights, UNET), dtype)
    vae = build(AutoencoderKL, settings[1], ldm.convert_ldm_vae_checkpoint, part(weights, VAE), torch.float32)
    fingerprint = layer_names.fingerprint({n.removeprefix(UNET): t for n, t in part(weights, UNET).items()})
    return Networks(facts, fingerprint, unet, vae, text)


def part(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under a prefix, by their whole names."""
    return {n: t for n, t in weights.items() if n.startswith(prefix)}


def build(
    cls: type[Any], settings: dict[str, Any], convert: Callable, weights: dict[str, Tensor], dtype: torch.dtype
) -> nn.Module:
    """A network of class `cls` that holds the converted weights and nothing else was ever allocated for it."""
    try:
        with torch.device("meta"):
            model = cls.from_config(settings)
        # copied even in the right type: the file may change while we work
        state = {n: t.to(dtype, copy=True) for n, t in convert(weights, settings).items()}
        model.load_state_dict(state, assign=True)
    except (KeyError, IndexError, RuntimeError, TypeError, ValueError, AttributeError) as e:
        raise BadCheckpoint(f"The checkpoint's {cls.__name__} is of an unknown build: {first_line(e)}") from e
    return model


def unet_settings(weights: Mapping[str, Tensor], facts: Facts) -> dict[str, Any]:
    """diffusers' configuration of a UNet, its sizes read off the weights."""
    shape, widths = facts.shape, level_widths(weights, facts.shape)
    stride = shape.layers_per_block + 1
    layers = [depths(weights, f"input_blocks.{1 + i * stride}.1") for i in range(shape.levels)]
    middle = depths(weights, "middle_block.1")
    if shape.attention[-1] and layers[-1] != middle:
        raise BadCheckpoint("This UNet's blocks differ in depth (a distilled model), which is not supported.")
    # where the last level has no attention, diffusers reads the middle's depth there
    layers[-1] = middle
    keyed = next((n for n in weights if n.startswith(UNET) and n.endswith("attn2.to_k.weight")), "")
    if not keyed or not middle:
        raise BadCheckpoint("This UNet does not read text in its middle, which is not supported.")
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


def vae_settings(weights: Mapping[str, Tensor], facts: Facts) -> dict[str, Any]:
    """diffusers' configuration of an autoencoder, its sizes read off the weights."""
    decoder = VAE + "decoder.up."
    levels = 1 + max((int(n.removeprefix(decoder).split(".")[0]) for n in weights if n.startswith(decoder)), default=-1)
    blocks = {n.removeprefix(decoder + "0.block.").split(".")[0] for n in part(weights, decoder + "0.block.")}
    widths = [weights[f"{decoder}{i}.block.0.conv1.weight"].shape[0] for i in range(levels)]
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


def from_folder(folder: Path, dtype: torch.dtype, prediction_type: str = "") -> Networks:
    """Networks of a folder as diffusers saves its pipelines. Raises `BadCheckpoint`."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    if not (folder / "model_index.json").is_file():
        raise BadCheckpoint(f"{folder.name} is neither a checkpoint file nor a diffusers folder (no model_index.json).")
    try:
        half = not list((folder / "unet").glob("*model*.safetensors")) or all(
            ".fp16." in f.name for f in (folder / "unet").glob("*.safetensors")
        )
        options = {"local_files_only": True, "use_safetensors": True, "variant": "fp16" if half else None}
        unet = UNet2DConditionModel.from_pretrained(folder / "unet", **options)
        vae = AutoencoderKL.from_pretrained(folder / "vae", **options)
        text = encoders.from_folder(folder, options)
        schedule = json.loads((folder / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
        facts = folder_facts(unet.config, vae.config, schedule, folder.name, prediction_type, len(text))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as e:
        raise BadCheckpoint(f"{folder.name} is not a complete diffusers folder: {first_line(e)}") from e
    state = unet.state_dict()
    names = {n: layer_names.diffusers_to_ldm(n, facts.shape) for n in state if n.endswith(layer_names.FINGERPRINTED)}
    fingerprint = layer_names.fingerprint({ldm: state[n] for n, ldm in names.items()})
    return Networks(facts, fingerprint, nn.Module.to(unet, dtype), vae.float(), text)


def folder_facts(unet: Mapping, vae: Mapping, schedule: Mapping, name: str, prediction_type: str, texts: int) -> Facts:
    """What a diffusers folder's configurations say. Raises `BadCheckpoint` for what is not supported."""
    if unet["in_channels"] != 4:
        raise BadCheckpoint(
            f"{name} is an inpainting or editing model ({unet['in_channels']} input channels), not supported: "
            "forget on the model it was made from."
        )
    if unet.get("addition_embed_type") == "text_time":
        if texts != 2:
            raise BadCheckpoint(f"{name} is SDXL's refiner, not supported: forget on the base model.")
        architecture = "sdxl"
    else:
        architecture = "sd2" if unet["use_linear_projection"] else "sd1"
    if schedule.get("beta_schedule", "scaled_linear") != "scaled_linear":
        raise BadCheckpoint(f"{name} has the noise schedule '{schedule['beta_schedule']}', which is not supported.")
    prediction = prediction_type or schedule.get("prediction_type", "epsilon")
    count = unet["attention_head_dim"]
    levels = unet["down_block_types"]
    start, end, steps = BETAS
    return Facts(
        architecture=architecture,
        prediction_type=prediction,
        zero_snr=bool(schedule.get("rescale_betas_zero_snr", False)),
        shape=UNetShape(unet["layers_per_block"], tuple(t.startswith("CrossAttn") for t in levels)),
        heads=tuple(count) if isinstance(count, (list, tuple)) else (count,) * len(levels),
        pixels=trained_pixels(architecture, prediction, {}),
        scale_factor=vae.get("scaling_factor") or SCALE_FACTOR[architecture],
        betas=(
            schedule.get("beta_start", start),
            schedule.get("beta_end", end),
            schedule.get("num_train_timesteps", steps),
        ),
    )


def first_line(error: Exception) -> str:
    """An exception's text up to its first line break."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
