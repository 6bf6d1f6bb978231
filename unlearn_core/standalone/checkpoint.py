"""What a checkpoint file is: told from its tensors alone, its name plays no part.

`NAME.yaml` beside the file (the original LDM form) may correct what tensors cannot say: attention heads, the kind of
prediction, the noise schedule, the latents' scale, and the tokenizer's folder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..delta.layer_names import UNetShape
from ..errors import BadCheckpoint

UNET, VAE = "model.diffusion_model.", "first_stage_model."
TEXT = "cond_stage_model.transformer."
OPEN_CLIP = "cond_stage_model.model."
XL_TEXT, XL_OPEN_CLIP = "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."
SGM_OPEN_CLIP = "conditioner.embedders.0.model."
"""The one text encoder of SDXL's refiner, or of SD2 as the later training code writes it."""
PARTS = (UNET, VAE, TEXT, OPEN_CLIP, XL_TEXT, XL_OPEN_CLIP, SGM_OPEN_CLIP)
V_PREDICTION, ZERO_SNR = "v_pred", "ztsnr"
EDM = ("edm_mean", "edm_vpred.sigma_max")
PREDICTIONS = ("epsilon", "v_prediction")
PIXELS = {"sd1": 512, "sd2": 512, "sdxl": 1024}
V_PIXELS = 768
"""SD2.1's v-prediction model was trained larger than its epsilon one."""
SCALE_FACTOR = {"sd1": 0.18215, "sd2": 0.18215, "sdxl": 0.13025}
BETAS = (0.00085, 0.012, 1000)
UNEVEN = 0.09


@dataclass(frozen=True)
class Facts:
    """What a checkpoint is.

    heads: attention heads of each level, finest first. pixels: side of the pictures that it was trained on.
    betas: (start, end, number) of the scaled linear schedule; zero_snr: shifted so that the last level is pure noise.
    """

    architecture: str
    prediction_type: str
    zero_snr: bool
    shape: UNetShape
    heads: tuple[int, ...]
    pixels: int
    scale_factor: float
    betas: tuple[float, float, int] = BETAS

    def sigmas(self) -> Tensor:
        """All trained noise levels, ascending, `[timesteps]`."""
        return discrete_sigmas(*self.betas, self.zero_snr)


@dataclass(frozen=True)
class Checkpoint:
    """One file: its tensors under their original names, what it is, and its yaml's `model.params`, {} without one."""

    path: Path
    weights: dict[str, Tensor]
    facts: Facts
    params: Mapping[str, Any] = field(default_factory=dict)


def open_checkpoint(path: Path, prediction_type: str = "") -> Checkpoint:
    """Read a single-file checkpoint; `prediction_type` overrules what file and yaml say. Raises `BadCheckpoint`."""
    weights = read_weights(path)
    params = read_yaml(path.with_suffix(".yaml"))
    try:
        return Checkpoint(path, weights, describe(weights, path.name, params, prediction_type), params)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, ZeroDivisionError) as e:
        raise BadCheckpoint(f"{path.name} or the .yaml beside it is not in a known form ({e!r}).") from e


def read_weights(path: Path) -> dict[str, Tensor]:
    """The networks' tensors and markers of a `.safetensors` file, mapped and not yet read; EMA copies are left out."""
    if path.suffix.lower() in {".ckpt", ".pt", ".pth", ".bin"}:
        raise BadCheckpoint(
            f"{path.name} is a pickle file, which can run code when opened; convert it to .safetensors."
        )
    if not path.is_file():
        raise BadCheckpoint(f"There is no checkpoint at {path}.")
    try:
        with safe_open(str(path), "pt") as file:
            names = [n for n in file.keys() if n.startswith(PARTS) or n in (V_PREDICTION, ZERO_SNR, *EDM)]
            weights = {n: file.get_tensor(n) for n in names}
    except (SafetensorError, OSError, ValueError, KeyError) as e:
        raise BadCheckpoint(f"{path.name} is not a readable .safetensors checkpoint ({e}).") from e
    # the first releases of transformers wrote the encoder without this level
    if not any(n.startswith(TEXT + "text_model.") for n in weights):
        weights = {
            (TEXT + "text_model." + n.removeprefix(TEXT) if n.startswith(TEXT) else n): t for n, t in weights.items()
        }
    return weights


def read_yaml(file: Path) -> dict[str, Any]:
    """`model.params` of an LDM configuration, {} where there is no file. Raises `BadCheckpoint`."""
    if not file.is_file():
        return {}
    import yaml

    try:
        return dict(yaml.safe_load(file.read_text(encoding="utf-8"))["model"]["params"])
    except (OSError, UnicodeDecodeError, KeyError, TypeError, ValueError, yaml.YAMLError) as e:
        raise BadCheckpoint(
            f"{file.name} beside the checkpoint is not a model configuration; mend or remove it."
        ) from e


def describe(weights: Mapping[str, Tensor], name: str, params: Mapping[str, Any], prediction_type: str = "") -> Facts:
    """What the tensors are. Raises `BadCheckpoint` with a sentence for what is not supported."""
    architecture = told_architecture(weights, name)
    if any(marker in weights for marker in EDM):
        raise BadCheckpoint(f"{name} was trained with EDM noise levels (as Playground 2.5), which is not supported.")
    shape = UNetShape.from_state_dict(n for n in weights if n.startswith(UNET))
    prediction = prediction_type or told_prediction(weights, architecture, params)
    if prediction not in PREDICTIONS:
        raise BadCheckpoint(f"'{prediction}' is not a kind of prediction: use one of {', '.join(PREDICTIONS)}.")
    given = params.get("unet_config") or params.get("network_config") or {}
    widths = level_widths(weights, shape)
    start, end, count = BETAS
    return Facts(
        architecture=architecture,
        prediction_type=prediction,
        zero_snr=ZERO_SNR in weights,
        shape=shape,
        heads=heads(given.get("params", {}), architecture, widths),
        pixels=trained_pixels(architecture, prediction, params),
        scale_factor=float(params.get("scale_factor", SCALE_FACTOR[architecture])),
        betas=(
            float(params.get("linear_start", start)),
            float(params.get("linear_end", end)),
            int(params.get("timesteps", count)),
        ),
    )


def trained_pixels(architecture: str, prediction: str, params: Mapping[str, Any]) -> int:
    """Side of the pictures that a checkpoint was trained on; the yaml says it of Stable Diffusion 1 alone."""
    if architecture == "sd1" and "image_size" in params:
        return 8 * int(params["image_size"])
    return V_PIXELS if (architecture, prediction) == ("sd2", "v_prediction") else PIXELS[architecture]


def told_architecture(weights: Mapping[str, Tensor], name: str) -> str:
    """ "sd1", "sd2" or "sdxl" by the input, the text encoders and the extra vector. Raises `BadCheckpoint`."""
    if UNET + "input_blocks.0.0.weight" not in weights:
        raise BadCheckpoint(f"{name} is not a Stable Diffusion checkpoint: it has no denoiser in the original layout.")
    if (channels := weights[UNET + "input_blocks.0.0.weight"].shape[1]) != 4:
        raise BadCheckpoint(
            f"{name} is an inpainting or editing checkpoint ({channels} input channels), not supported: "
            "forget on the checkpoint it was made from."
        )
    has = {part for part in PARTS if any(n.startswith(part) for n in weights)}
    if UNET + "label_emb.0.0.weight" in weights:
        if SGM_OPEN_CLIP in has:
            raise BadCheckpoint(f"{name} is SDXL's refiner, not supported: forget on the base model.")
        if has & {TEXT, OPEN_CLIP}:
            raise BadCheckpoint(f"{name} takes pictures beside words (unCLIP), not supported: use the plain model.")
        found = "sdxl" if {XL_TEXT, XL_OPEN_CLIP} <= has else ""
    else:
        found = "sd2" if has & {OPEN_CLIP, SGM_OPEN_CLIP} else "sd1" if TEXT in has else ""
    if not found or VAE + "post_quant_conv.weight" not in weights:
        raise BadCheckpoint(f"{name} lacks its text encoder or autoencoder; use the full checkpoint.")
    return found


def told_prediction(weights: Mapping[str, Tensor], architecture: str, params: Mapping[str, Any]) -> str:
    """The yaml's word, else the marker's, else for SD2 the unevenness of one bias as in ComfyUI, else epsilon.

    SD2.1-v carries no marker. Its bias of output block 11 has a deviation above 0.09, the epsilon model's lies below.
    """
    if "parameterization" in params:
        return {"v": "v_prediction", "eps": "epsilon"}.get(params["parameterization"], str(params["parameterization"]))
    if V_PREDICTION in weights or "VScaling" in str(params.get("denoiser_config")):
        return "v_prediction"
    bias = weights.get(UNET + "output_blocks.11.1.transformer_blocks.0.norm1.bias")
    uneven = architecture == "sd2" and bias is not None and bias.float().std(correction=0) > UNEVEN
    return "v_prediction" if uneven else "epsilon"


def level_widths(weights: Mapping[str, Tensor], shape: UNetShape) -> list[int]:
    """Channels of each level, finest first."""
    firsts = (1 + i * (shape.layers_per_block + 1) for i in range(shape.levels))
    return [weights[f"{UNET}input_blocks.{n}.0.out_layers.3.weight"].shape[0] for n in firsts]


def heads(given: Mapping[str, Any], architecture: str, widths: list[int]) -> tuple[int, ...]:
    """Attention heads of each level: a number of them (SD1: 8) or of their channels (SD2, SDXL: 64)."""
    count, channels = int(given.get("num_heads", -1)), int(given.get("num_head_channels", -1))
    if count < 1 and channels < 1:
        count, channels = (8, -1) if architecture == "sd1" else (-1, 64)
    return tuple(max(1, w // channels) if channels > 0 else count for w in widths)


def depths(weights: Mapping[str, Tensor], block: str) -> int:
    """Transformer layers in one block of the UNet, 0 where it has no attention."""
    pattern = re.compile(re.escape(UNET + block) + r"\.transformer_blocks\.(\d+)\.")
    return len({found[1] for n in weights if (found := pattern.match(n))})


def discrete_sigmas(start: float, end: float, count: int, zero_snr: bool = False) -> Tensor:
    """sigma_t = sqrt((1 - abar_t) / abar_t) of the scaled linear schedule, ascending, `[count]`.

    zero_snr: sqrt(abar) shifted and stretched to end at 0 (Lin et al. 2023, algorithm 1); the last level would be
    infinite and takes ComfyUI's stand-in, sigma = 4518.8.
    """
    betas = torch.linspace(start**0.5, end**0.5, count, dtype=torch.float64) ** 2
    alphas = (1 - betas).cumprod(0)
    if zero_snr:
        root = alphas.sqrt()
        alphas = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
        alphas[-1] = 4.8973451890853435e-08
    return ((1 - alphas) / alphas).sqrt().float()
