"""A folder as diffusers saves its pipelines, read without its loaders.

Every configuration is a stranger's: only names that are known are looked at, each within its bounds, and no class,
code or template that a file names is loaded.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..delta import layer_names
from ..delta.base_sample import Base
from ..delta.layer_names import UNetShape
from ..errors import BadCheckpoint
from ..untrusted import Unreadable, read_header
from .checkpoint import (
    MAX_DEPTH,
    MAX_HEADER,
    MAX_LAYERS,
    MAX_LEVELS,
    MAX_TENSORS,
    MAX_WIDTH,
    SCALE_FACTOR,
    Facts,
    trained_pixels,
)
from .clip_tokenizer import read_tokenizer
from .schedule import PREDICTIONS, from_scheduler
from .sidecar import Settings, read_settings
from .text_encoders import TextEncoder, check_tokens, clip_settings, filled
from .text_encoders import bare as text_state
from .weights import network, unscaled

PIPELINES = (
    "StableDiffusionPipeline",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionPipelineSafe",
    "StableDiffusionXLPipeline",
    "StableDiffusionXLImg2ImgPipeline",
    "LatentConsistencyModelPipeline",
)
CLASSES = {"unet": ("UNet2DConditionModel",), "vae": ("AutoencoderKL",)}
UNET_FREE = (
    *("sample_size", "down_block_types", "up_block_types", "block_out_channels", "layers_per_block"),
    *("cross_attention_dim", "transformer_layers_per_block", "attention_head_dim", "use_linear_projection"),
    *("addition_embed_type", "addition_time_embed_dim", "projection_class_embeddings_input_dim", "upcast_attention"),
    *("dropout", "addition_embed_type_num_heads"),
)
VAE_FREE = (
    *("down_block_types", "up_block_types", "block_out_channels", "layers_per_block", "sample_size"),
    *("scaling_factor", "force_upcast"),
)
DEPRECATED = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Names of the autoencoder's attention in old folders."""


class Folder:
    """A folder with a `model_index.json`. Raises `BadCheckpoint` for what is missing, odd or not supported."""

    def __init__(self, path: Path):
        self.path = path
        self.name = path.resolve().name
        if not (path / "model_index.json").is_file():
            raise BadCheckpoint(
                f"{self.name} is neither a checkpoint file nor a diffusers folder (no model_index.json)."
            )
        self.index = read_settings(path / "model_index.json", f"{self.name}/model_index.json")
        kind = self.index.values.get("_class_name")
        if kind is not None and kind not in PIPELINES:
            raise BadCheckpoint(
                f"{self.name} is a {str(kind)[:60]}, which is not supported: use a Stable Diffusion 1, 2 or XL folder."
            )
        for part, known in CLASSES.items():
            row = self.index.values.get(part)
            if isinstance(row, list) and len(row) == 2 and row[1] not in known:
                raise BadCheckpoint(
                    f"{self.name} has a {part} of the class {str(row[1])[:60]}, which is not supported."
                )
        self._check_parts()

    def _check_parts(self) -> None:
        """Every part of the pipeline is there."""
        wanted = ["unet", "vae", "scheduler", "text_encoder", "tokenizer"]
        refiner = self.index.values.get("text_encoder") == [None, None]
        if refiner and (self.path / "text_encoder_2").is_dir():
            raise BadCheckpoint(f"{self.name} is SDXL's refiner, not supported: forget on the base model.")
        second = str(self.index.values.get("_class_name")).startswith("StableDiffusionXL")
        if second or (self.path / "text_encoder_2").is_dir():
            wanted += ["text_encoder_2", "tokenizer_2"]
        if missing := [part for part in wanted if not (self.path / part).is_dir()]:
            raise BadCheckpoint(
                f"{self.name} is not a complete diffusers folder: it lacks {', '.join(missing)}; "
                "copy or download it again."
            )

    def config(self, part: str, file: str = "config.json") -> Settings:
        """A part's configuration."""
        return read_settings(self.path / part / file, f"{self.name}/{part}/{file}")

    def facts(self, prediction_type: str) -> tuple[Facts, dict[str, Any], dict[str, Any]]:
        """(what the model is, the UNet's configuration, the autoencoder's), as far as they are supported."""
        unet, vae = self.config("unet"), self.config("vae")
        shape, settings = unet_config(unet, self.name)
        schedule = self.config("scheduler", "scheduler_config.json")
        betas, said = from_scheduler(schedule, self.name)
        prediction = prediction_type or said
        if prediction not in PREDICTIONS:
            raise BadCheckpoint(f"'{prediction}' is not a kind of prediction: use one of {', '.join(PREDICTIONS)}.")
        xl = settings["addition_embed_type"] == "text_time"
        architecture = "sdxl" if xl else "sd2" if settings["use_linear_projection"] else "sd1"
        if xl != (self.path / "text_encoder_2").is_dir():
            raise BadCheckpoint(
                f"{self.name} has the UNet of {'SDXL' if xl else 'SD1 or SD2'}, but other text encoders: "
                "copy or download it again."
            )
        facts = Facts(
            architecture=architecture,
            prediction_type=prediction,
            shape=shape,
            heads=tuple(settings["attention_head_dim"]),
            pixels=8 * settings["sample_size"]
            if settings["sample_size"]
            else trained_pixels(architecture, prediction, {}),
            scale_factor=vae.number("scaling_factor", SCALE_FACTOR[architecture], 1e-3, 1e3),
            betas=betas,
            notes=tuple(self._notes(schedule)),
        )
        return facts, settings, vae_config(vae, facts.scale_factor, self.name)

    def _notes(self, schedule: Settings) -> list[str]:
        """What the artist should know."""
        trailing = schedule.values.get("timestep_spacing") == "trailing" and not schedule.flag("rescale_betas_zero_snr")
        if trailing or schedule.values.get("_class_name") in ("LCMScheduler", "TCDScheduler"):
            return [
                f"{self.name} seems to be distilled to a few steps (as Turbo): pictures of the check may be poor; "
                "forget on the model that it was made from, the delta may fit both."
            ]
        return []

    def unet(self, settings: dict[str, Any], shape: UNetShape, dtype: torch.dtype) -> tuple[nn.Module, Base]:
        """The UNet, and its weights as deltas know them, before any rounding."""
        from diffusers import UNet2DConditionModel

        state = self.weights("unet", "diffusion_pytorch_model")
        made = network(lambda: UNet2DConditionModel.from_config(settings), state, dtype, f"{self.name}/unet")
        names = {n: layer_names.diffusers_to_ldm(n, shape) for n in state if n.endswith(layer_names.FINGERPRINTED)}
        return made, Base.of({ldm: state[n] for n, ldm in names.items()})

    def vae(self, settings: dict[str, Any]) -> Any:
        """The autoencoder in float32."""
        from diffusers import AutoencoderKL

        state = {}
        for name, t in self.weights("vae", "diffusion_pytorch_model").items():
            module, _, kind = name.rpartition(".")
            parent, _, last = module.rpartition(".")
            if last in DEPRECATED and parent.endswith("attentions.0"):
                name, t = f"{parent}.{DEPRECATED[last]}.{kind}", t.flatten(1) if t.dim() == 4 else t
            state[name] = t
        return network(lambda: AutoencoderKL.from_config(settings), state, torch.float32, f"{self.name}/vae")

    def encoders(self, architecture: str) -> tuple[TextEncoder, ...]:
        """The text encoders in float32, with their tokenizers."""
        from transformers import CLIPTextModel, CLIPTextModelWithProjection

        two = architecture == "sdxl"
        made = []
        for suffix, cls in (("", CLIPTextModel), ("_2", CLIPTextModelWithProjection))[: 1 + two]:
            part = f"text_encoder{suffix}"
            given = self.config(part)
            if str(given.values.get("model_type", "clip")) not in ("clip", "clip_text_model"):
                raise BadCheckpoint(f"{self.name}/{part} is not a CLIP text encoder, which is not supported.")
            whole = {
                n if n.startswith(("text_model.", "text_proj")) else "text_model." + n: t
                for n, t in self.weights(part, "model").items()
            }
            state = text_state(whole, "")
            if suffix:
                state |= {n: t for n, t in whole.items() if n.startswith("text_projection")}
            model = filled(cls, clip_settings(given, state, "quick_gelu"), state)
            tokenizer = read_tokenizer(self.path / f"tokenizer{suffix}")
            pad = tokenizer.pad_token_id
            made.append(TextEncoder(model, tokenizer, pad, penultimate=two, pooled=two and bool(suffix)))
            check_tokens(made[-1])
        return tuple(made)

    def weights(self, part: str, stem: str) -> dict[str, Tensor]:
        """All tensors of a part, whole or in shards, of the plain variant or the one that is there."""
        where = f"{self.name}/{part}"
        found: dict[str, Tensor] = {}
        for file in self.files(part, stem):
            try:
                header = read_header(file, MAX_HEADER, MAX_TENSORS)
                with safe_open(str(file), "pt") as opened:
                    found |= {n: opened.get_tensor(n) for n in header.tensors}
            except Unreadable as e:
                raise BadCheckpoint(f"{where}/{file.name} cannot be read: {e}.") from e
            except (SafetensorError, OSError, ValueError, KeyError, RuntimeError, AttributeError) as e:
                raise BadCheckpoint(f"{where}/{file.name} is damaged: copy or download it again ({e}).") from e
        return unscaled(found, where)

    def files(self, part: str, stem: str) -> list[Path]:
        """The weights' files of a part, as diffusers finds them: plain before float16 before any other variant."""
        folder = self.path / part
        plain = [f"{stem}.safetensors", f"{stem}.safetensors.index.json"]
        half = [
            f"{stem}.fp16.safetensors",
            f"{stem}.safetensors.index.fp16.json",
            f"{stem}.fp16.safetensors.index.json",
        ]
        others = [f.name for end in ("safetensors", "json") for f in sorted(folder.glob(f"{stem}.*.{end}"))]
        whole = [n for n in others if not n.endswith(".json") and "-of-" not in n]
        for name in (*plain, *half, *whole, *(n for n in others if n.endswith(".json"))):
            if not (folder / name).is_file():
                continue
            return self.shards(part, name) if name.endswith(".json") else [folder / name]
        pickled = any(folder.glob("*.bin")) or any(folder.glob("*.ckpt"))
        what = "only pickle files, which can run code when opened: convert them" if pickled else "no weights"
        raise BadCheckpoint(f"{self.name}/{part} holds {what} ({stem}.safetensors is missing).")

    def shards(self, part: str, index: str) -> list[Path]:
        """The files that an index names, all of them inside the part's own folder."""
        table = self.config(part, index).inside("weight_map").values
        names = {str(n) for n in table.values()}
        if not names or len(table) > MAX_TENSORS:
            raise BadCheckpoint(f"{self.name}/{part}/{index} names no files, or too many: copy or download it again.")
        if odd := [n for n in names if Path(n).name != n or "\\" in n or not n.endswith(".safetensors")]:
            raise BadCheckpoint(f"{self.name}/{part}/{index} names '{odd[0][:60]}', which is no file of its folder.")
        if missing := [n for n in sorted(names) if not (self.path / part / n).is_file()]:
            raise BadCheckpoint(f"{self.name}/{part} lacks {', '.join(missing[:3])}: copy or download it again.")
        return [self.path / part / n for n in sorted(names)]


def checked_fixed(given: Settings, cls: type, free: tuple[str, ...], name: str) -> None:
    """Raise `BadCheckpoint` where a setting that changes what a network computes is another than usual."""
    for key, parameter in inspect.signature(cls.__init__).parameters.items():  # type: ignore[misc]
        usual, value = parameter.default, given.values.get(key)
        if key in ("self", *free) or key not in given.values or (value is None and key != "mid_block_type"):
            continue
        off = not value or (isinstance(value, list) and not any(value))
        if value != usual and not (usual in (None, False) and off):
            raise BadCheckpoint(
                f"{name} has a network with {key}: {str(value)[:60]}, which is not supported: use the model that it "
                "was made from."
            )


def unet_config(given: Settings, name: str) -> tuple[UNetShape, dict[str, Any]]:
    """(shape, diffusers' configuration) of a UNet, checked. Raises `BadCheckpoint` for what is not supported."""
    from diffusers import UNet2DConditionModel

    if (channels := given.whole("in_channels", 4, 1, 1000)) != 4:
        raise BadCheckpoint(
            f"{name} is an inpainting or editing model ({channels} input channels), not supported: "
            "forget on the model it was made from."
        )
    if given.values.get("time_cond_proj_dim") is not None:
        raise BadCheckpoint(f"{name} takes its guidance as an input (LCM), not supported: forget on the plain model.")
    checked_fixed(given, UNet2DConditionModel, UNET_FREE, name)
    down, attention = block_types(given, "down_block_types", "DownBlock2D")
    up, back = block_types(given, "up_block_types", "UpBlock2D")
    if back != attention[::-1]:
        raise BadCheckpoint(f"{name} has a UNet whose way up differs from its way down, which is not supported.")
    levels = len(down)
    layers = given.each("layers_per_block", 2, levels, MAX_LAYERS)
    if len(set(layers)) > 1:
        raise BadCheckpoint(f"{name} has a UNet whose levels differ in their number of layers, which is not supported.")
    widths = given.each("block_out_channels", 0, levels, MAX_WIDTH)
    found = {
        "in_channels": 4,
        "out_channels": given.whole("out_channels", 4, 4, 4),
        "sample_size": side(given),
        "block_out_channels": list(widths),
        "layers_per_block": layers[0],
        "down_block_types": down,
        "up_block_types": up,
        "attention_head_dim": list(given.each("attention_head_dim", 8, levels, MAX_WIDTH)),
        "cross_attention_dim": given.whole("cross_attention_dim", 1280, 1, MAX_WIDTH),
        "transformer_layers_per_block": list(given.each("transformer_layers_per_block", 1, levels, MAX_DEPTH)),
        "use_linear_projection": given.flag("use_linear_projection"),
        "upcast_attention": given.flag("upcast_attention"),
        "addition_embed_type": given.text("addition_embed_type") or None,
    }
    if found["addition_embed_type"] not in (None, "text_time"):
        raise given.refuse("addition_embed_type", "text_time")
    if found["addition_embed_type"]:
        for key in ("addition_time_embed_dim", "projection_class_embeddings_input_dim"):
            found[key] = given.whole(key, 0, 1, 2 * MAX_WIDTH)
    return UNetShape(layers[0], attention), found


def block_types(given: Settings, key: str, plain: str) -> tuple[list[str], tuple[bool, ...]]:
    """(classes, whether each has attention) of a UNet's levels. Raises `BadCheckpoint` for others."""
    types = given.values.get(key)
    known = (plain, "CrossAttn" + plain)
    if not isinstance(types, list) or not 1 <= len(types) <= MAX_LEVELS or any(t not in known for t in types):
        raise given.refuse(key, f"a list of {' and '.join(known)}")
    return types, tuple(t != plain for t in types)


def side(given: Settings) -> int:
    """Side of the latents that a UNet was trained on, 0 where it is not said."""
    value = given.values.get("sample_size")
    if isinstance(value, list) and len(value) == 2 and value[0] == value[1]:
        return Settings({"sample_size": value[0]}, given.where).whole("sample_size", 0, 4, 512)
    return given.whole("sample_size", 0, 4, 512)


def vae_config(given: Settings, factor: float, name: str) -> dict[str, Any]:
    """diffusers' configuration of an autoencoder, checked. Raises `BadCheckpoint` for what is not supported."""
    from diffusers import AutoencoderKL

    checked_fixed(given, AutoencoderKL, VAE_FREE, name)
    widths = given.values.get("block_out_channels")
    levels = len(widths) if isinstance(widths, list) else 0
    types = {"down_block_types": "DownEncoderBlock2D", "up_block_types": "UpDecoderBlock2D"}
    if not 1 <= levels <= MAX_LEVELS:
        raise given.refuse("block_out_channels", f"a list of 1 to {MAX_LEVELS} numbers")
    for key, known in types.items():
        if given.values.get(key) != [known] * levels:
            raise given.refuse(key, f"{levels} times {known}")
    return {
        "in_channels": 3,
        "out_channels": 3,
        "block_out_channels": list(given.each("block_out_channels", 0, levels, MAX_WIDTH)),
        **{key: [known] * levels for key, known in types.items()},
        "layers_per_block": given.whole("layers_per_block", 1, 1, MAX_LAYERS),
        "latent_channels": 4,
        "sample_size": given.whole("sample_size", 512, 1, 2**14),
        "scaling_factor": factor,
    }
