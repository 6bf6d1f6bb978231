"""What a checkpoint file is: told from its tensors alone, its name plays no part.

`NAME.yaml` beside the file (the original LDM form) may correct what tensors cannot say: attention heads, the kind of
prediction, the noise schedule, the latents' scale, and the tokenizer's folder.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..delta.layer_names import UNetShape
from ..delta.paths import missing
from ..errors import BadCheckpoint
from ..untrusted import CHECKPOINT_BOUNDS, Header, Unreadable, read_header
from .families import told_family
from .schedule import PREDICTIONS, Betas, from_yaml
from .sidecar import Settings, read_yaml, told
from .weights import unscaled

UNET, VAE = "model.diffusion_model.", "first_stage_model."
TEXT = "cond_stage_model.transformer."
OPEN_CLIP = "cond_stage_model.model."
XL_TEXT, XL_OPEN_CLIP = "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."
SGM_OPEN_CLIP = "conditioner.embedders.0.model."
"""The one text encoder of SDXL's refiner, or of SD2 as the later training code writes it."""
PARTS = (UNET, VAE, TEXT, OPEN_CLIP, XL_TEXT, XL_OPEN_CLIP, SGM_OPEN_CLIP)
V_PREDICTION, ZERO_SNR = "v_pred", "ztsnr"
EDM = ("edm_mean", "edm_vpred.sigma_max")
PIXELS = {"sd1": 512, "sd2": 512, "sdxl": 1024}
V_PIXELS = 768
"""SD2.1's v-prediction model was trained larger than its epsilon one."""
SCALE_FACTOR = {"sd1": 0.18215, "sd2": 0.18215, "sdxl": 0.13025}
UNEVEN = 0.09
(MAX_HEADER, MAX_TENSORS), MAX_ELEMENTS = CHECKPOINT_BOUNDS, 2**33
MAX_WIDTH, MAX_LEVELS, MAX_LAYERS, MAX_DEPTH = 2**14, 8, 8, 64
"""Bounds of a UNet's parts, some times what any has."""
PICKLES = {".ckpt", ".pt", ".pth", ".bin"}
MODEL_SPEC = "modelspec.prediction_type"
YAML = "The .yaml beside the checkpoint"


@dataclass(frozen=True)
class Facts:
    """What a checkpoint is.

    heads: attention heads of each level, finest first. pixels: side of the pictures that it was trained on.
    notes: sentences on what the artist should know of it.
    """

    architecture: str
    prediction_type: str
    shape: UNetShape
    heads: tuple[int, ...]
    pixels: int
    scale_factor: float
    betas: Betas = Betas()
    notes: tuple[str, ...] = ()

    @property
    def zero_snr(self) -> bool:
        """Whether the last noise level is pure noise."""
        return self.betas.zero_snr

    def sigmas(self) -> Tensor:
        """All trained noise levels, ascending, `[timesteps]`."""
        return self.betas.sigmas()


@dataclass(frozen=True)
class Checkpoint:
    """One file: its tensors under their original names, what it is, and its yaml's `model.params`, {} without one."""

    path: Path
    weights: dict[str, Tensor]
    facts: Facts
    params: Mapping[str, Any] = field(default_factory=dict)


def open_checkpoint(path: Path, prediction_type: str = "") -> Checkpoint:
    """Read a single-file checkpoint; `prediction_type` overrules what file and yaml say. Raises `BadCheckpoint`."""
    weights, texts = read_weights(path)
    params = read_yaml(path.with_suffix(".yaml"))
    try:
        facts = describe(weights, path.name, params, prediction_type, texts)
        return Checkpoint(path, weights, facts, params)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, ZeroDivisionError, OverflowError) as e:
        raise BadCheckpoint(f"{path.name} or the .yaml beside it is not in a known form ({told(e)}).") from e


def read_weights(path: Path) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    """The networks' tensors and markers of a `.safetensors` file, mapped and not yet read, and the author's texts.

    EMA copies are left out.
    """
    if path.suffix.lower() in PICKLES:
        raise BadCheckpoint(
            f"{path.name} is a pickle file, which can run code when opened; convert it to .safetensors."
        )
    if not path.is_file():
        raise BadCheckpoint(missing(path))
    try:
        header = read_header(path, MAX_HEADER, MAX_TENSORS)
        names = [n for n in header.tensors if n.startswith(PARTS) or n in (V_PREDICTION, ZERO_SNR, *EDM)]
        check_amount(header, names, path.name)
        with safe_open(str(path), "pt") as file:
            weights = {n: file.get_tensor(n) for n in names}
    except Unreadable as e:
        raise BadCheckpoint(f"{path.name} is not a readable .safetensors checkpoint: {e}.") from e
    except PermissionError as e:
        raise BadCheckpoint(f"{path.name} cannot be read ({e.strerror}): ask for the right to read it.") from e
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError, AttributeError) as e:
        raise BadCheckpoint(
            f"{path.name} is not a readable .safetensors checkpoint ({e}): it may not be whole, download it again."
        ) from e
    return with_first_level(unscaled(weights, path.name)), header.metadata


def check_amount(header: Header, names: list[str], file: str) -> None:
    """Raise `BadCheckpoint` for a file of another family, or of more numbers than any model of these has."""
    if UNET + "input_blocks.0.0.weight" not in header.tensors:
        family = told_family(header.tensors)
        what = f"it is {family}" if family else "it has no denoiser in the original layout"
        raise BadCheckpoint(
            f"{file} is not a Stable Diffusion checkpoint: {what}. Use a full Stable Diffusion 1, 2 or XL file."
        )
    if sum(math.prod(header.tensors[n][1]) for n in names) > MAX_ELEMENTS:
        raise BadCheckpoint(f"{file} is larger than any Stable Diffusion checkpoint: copy or download it again.")


def with_first_level(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """CLIP's tensors with "text_model." in front, which the first and the latest releases of transformers leave out."""
    for prefix in (TEXT, XL_TEXT):
        inside = prefix + "text_model."
        if not any(n.startswith(inside) for n in weights):
            weights = {(inside + n.removeprefix(prefix) if n.startswith(prefix) else n): t for n, t in weights.items()}
    return weights


def describe(
    weights: Mapping[str, Tensor],
    name: str,
    params: Mapping[str, Any],
    prediction_type: str = "",
    texts: Mapping[str, str] | None = None,
) -> Facts:
    """What the tensors are. Raises `BadCheckpoint` with a sentence for what is not supported.

    texts: the file's own, written by its author.
    """
    texts, settings = texts or {}, Settings(params, YAML)
    architecture = told_architecture(weights, name)
    if any(marker in weights for marker in EDM):
        raise BadCheckpoint(f"{name} was trained with EDM noise levels (as Playground 2.5), which is not supported.")
    shape = UNetShape.from_state_dict(n for n in weights if n.startswith(UNET))
    prediction = prediction_type or told_prediction(weights, architecture, params, texts)
    if prediction not in PREDICTIONS:
        raise BadCheckpoint(f"'{prediction}' is not a kind of prediction: use one of {', '.join(PREDICTIONS)}.")
    widths = level_widths(weights, shape)
    network = settings.inside("unet_config" if params.get("unet_config") else "network_config", "params")
    check_sizes(network, weights, architecture)
    return Facts(
        architecture=architecture,
        prediction_type=prediction,
        shape=shape,
        heads=heads(network, architecture, widths),
        pixels=trained_pixels(architecture, prediction, params),
        scale_factor=settings.number("scale_factor", SCALE_FACTOR[architecture], 1e-3, 1e3),
        betas=from_yaml(settings, ZERO_SNR in weights),
        notes=tuple(distilled(texts, name)),
    )


def distilled(texts: Mapping[str, str], name: str) -> Iterator[str]:
    """A sentence on a model that its author calls distilled to a few steps."""
    said = " ".join(texts.get(f"modelspec.{key}", "") for key in ("architecture", "title")).casefold()
    for word in ("turbo", "lightning", "lcm", "hyper-sd", "schnell"):
        if word in said:
            yield (
                f"{name} says that it is distilled to a few steps ({word}): pictures of the check may be poor; "
                "forget on the model that it was made from, the delta may fit both."
            )
            return


def check_sizes(network: Settings, weights: Mapping[str, Tensor], architecture: str) -> None:
    """Raise `BadCheckpoint` where the yaml speaks of another UNet than the file holds."""
    first, text = weights[UNET + "input_blocks.0.0.weight"].shape, text_matrix(weights)
    found = {"model_channels": first[0], "in_channels": first[1]}
    if text:
        found["context_dim"] = weights[text].shape[1]
    for name, is_there in found.items():
        wanted = network.values.get(name, is_there)
        # SDXL's configurations may give a number for each level
        if not isinstance(wanted, (list, tuple)) and wanted != is_there:
            raise BadCheckpoint(
                f"{YAML} is of another model ({name} {str(wanted)[:20]}, but the file has {is_there}): "
                "mend or remove it."
            )


def text_matrix(weights: Mapping[str, Tensor]) -> str:
    """A matrix that reads text, by whose width the text is known; "" where there is none."""
    return next((n for n in weights if n.startswith(UNET) and n.endswith("attn2.to_k.weight")), "")


def trained_pixels(architecture: str, prediction: str, params: Mapping[str, Any]) -> int:
    """Side of the pictures that a checkpoint was trained on; the yaml says it of Stable Diffusion 1 alone."""
    side = Settings(params, YAML).whole("image_size", 0, 4, 512)
    if architecture == "sd1" and side:
        return 8 * side
    return V_PIXELS if (architecture, prediction) == ("sd2", "v_prediction") else PIXELS[architecture]


def told_architecture(weights: Mapping[str, Tensor], name: str) -> str:
    """ "sd1", "sd2" or "sdxl" by the input, the text encoders, the extra vector and the transformers' entrance.

    Raises `BadCheckpoint` where they contradict each other: what is in doubt is refused.
    """
    if (channels := weights[UNET + "input_blocks.0.0.weight"].shape[1]) != 4:
        raise BadCheckpoint(
            f"{name} is an inpainting or editing checkpoint ({channels} input channels), not supported: "
            "forget on the checkpoint it was made from."
        )
    if UNET + "time_embed.cond_proj.weight" in weights:
        raise BadCheckpoint(f"{name} takes its guidance as an input (LCM), not supported: forget on the plain model.")
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
    if len(has & {TEXT, OPEN_CLIP, SGM_OPEN_CLIP}) > 1:
        raise BadCheckpoint(f"{name} holds text encoders of two families: use the original file.")
    entrance = weights.get(UNET + "middle_block.1.proj_in.weight")
    if entrance is not None and (entrance.dim() == 4) != (found == "sd1"):
        other = "Stable Diffusion 2 or XL" if found == "sd1" else "Stable Diffusion 1"
        raise BadCheckpoint(
            f"{name} has the text encoder of {found.upper()}, but the denoiser of {other}: which one it is cannot be "
            "told, so use the original file."
        )
    return found


def told_prediction(
    weights: Mapping[str, Tensor], architecture: str, params: Mapping[str, Any], texts: Mapping[str, str]
) -> str:
    """The yaml's word, else the marker's, the author's, for SD2 the unevenness of one bias as in ComfyUI, else epsilon.

    SD2.1-v carries no marker. Its bias of output block 11 has a deviation above 0.09, the epsilon model's lies below.
    Raises `BadCheckpoint` where marker and author contradict each other.
    """
    if "parameterization" in params:
        said = str(params["parameterization"])[:60]
        return {"v": "v_prediction", "eps": "epsilon"}.get(said, said)
    marked = V_PREDICTION in weights or "VScaling" in str(params.get("denoiser_config"))[:10_000]
    said = texts.get(MODEL_SPEC, "").strip().casefold()
    said = {"v": "v_prediction", "eps": "epsilon"}.get(said, said)[:60]
    if marked and said == "epsilon":
        raise BadCheckpoint(
            "The checkpoint is marked as a v model, but its texts say epsilon: say which by --prediction."
        )
    if marked:
        return "v_prediction"
    if said:
        return said
    bias = weights.get(UNET + "output_blocks.11.1.transformer_blocks.0.norm1.bias")
    uneven = architecture == "sd2" and bias is not None and bias.float().std(correction=0) > UNEVEN
    return "v_prediction" if uneven else "epsilon"


def level_widths(weights: Mapping[str, Tensor], shape: UNetShape) -> list[int]:
    """Channels of each level, finest first. Raises `BadCheckpoint` for a UNet out of all bounds."""
    if shape.levels > MAX_LEVELS or shape.layers_per_block > MAX_LAYERS:
        raise BadCheckpoint("This UNet has more levels or layers than any that is known, which is not supported.")
    names = [
        f"{UNET}input_blocks.{1 + i * (shape.layers_per_block + 1)}.0.out_layers.3.weight" for i in range(shape.levels)
    ]
    if missing := [n for n in names if n not in weights]:
        raise BadCheckpoint(f"The checkpoint's UNet lacks {missing[0]}: copy or download the file again.")
    widths = [weights[n].shape[0] for n in names]
    if not all(1 <= w <= MAX_WIDTH for w in widths):
        raise BadCheckpoint(f"This UNet is {max(widths)} wide, which no known one is.")
    return widths


def heads(given: Settings, architecture: str, widths: list[int]) -> tuple[int, ...]:
    """Attention heads of each level: a number of them (SD1: 8) or of their channels (SD2, SDXL: 64)."""
    count = given.whole("num_heads", -1, -1, MAX_WIDTH)
    channels = given.whole("num_head_channels", -1, -1, MAX_WIDTH)
    if count < 1 and channels < 1:
        count, channels = (8, -1) if architecture == "sd1" else (-1, 64)
    found = tuple(max(1, w // channels) if channels > 0 else count for w in widths)
    if any(w % n for w, n in zip(widths, found, strict=True)):
        raise BadCheckpoint(f"A UNet of widths {widths} cannot have {list(found)} attention heads: see its .yaml.")
    return found


def depths(weights: Mapping[str, Tensor], block: str) -> int:
    """Transformer layers in one block of the UNet, 0 where it has no attention."""
    pattern = re.compile(re.escape(UNET + block) + r"\.transformer_blocks\.(\d+)\.")
    return len({found[1] for n in weights if (found := pattern.match(n))})
