"""The bundled checkpoint in ComfyUI's own classes; its networks are too small for ComfyUI's detection to know them."""

from __future__ import annotations

import json
from pathlib import Path

import comfy.model_detection
import comfy.model_management as memory
import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models
import comfy.supported_models_base
import comfy.utils
import torch
import yaml
from torch import Tensor

UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer."
EMBEDDING = TEXT + "text_model.embeddings.token_embedding.weight"
CLIP_VOCABULARY = 49408
"""Rows of the token table that ComfyUI makes for every CLIP; the demo's own words fill the first of them."""


def load_demo(checkpoint: Path) -> tuple[comfy.model_patcher.ModelPatcher, comfy.sd.CLIP, comfy.sd.VAE]:
    """Model, text encoder and autoencoder of a checkpoint with `NAME.yaml` and `tokenizer/` beside it, in float32."""
    weights, params = read(checkpoint)
    clip, vae, _ = load_companions(checkpoint)
    return load_denoiser(weights, params["unet_config"]["params"]["num_heads"]), clip, vae


def read(checkpoint: Path) -> tuple[dict[str, Tensor], dict]:
    """(all tensors, the parameters that `NAME.yaml` names)."""
    params = yaml.safe_load(checkpoint.with_suffix(".yaml").read_text("utf-8"))["model"]["params"]
    return in_float32(checkpoint), params


def in_float32(file: Path) -> dict[str, Tensor]:
    """All tensors of a file, which holds them in half precision.

    With dynamic VRAM ComfyUI's layers keep the numbers that they are given, whatever type they were made for.
    """
    return {name: t.float() for name, t in comfy.utils.load_torch_file(str(file), safe_load=True).items()}


def load_companions(checkpoint: Path, tokens: int | None = None) -> tuple[comfy.sd.CLIP, comfy.sd.VAE, Path]:
    """Text encoder, autoencoder and the tokenizer's folder. tokens: how many of a prompt are handed on; None: all."""
    weights, params = read(checkpoint)
    autoencoder = params["first_stage_config"]["params"]
    folder = checkpoint.parent / params["cond_stage_config"]["params"]["version"]
    sizes = {"params": {k: autoencoder[k] for k in ("ddconfig", "embed_dim")}}
    vae = comfy.sd.VAE(sd=part(weights, VAE), config=sizes, dtype=torch.float32)
    return load_text_encoder(weights, folder, tokens), vae, folder


def part(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The weights under a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


def load_denoiser(weights: dict[str, Tensor], heads: int) -> comfy.model_patcher.ModelPatcher:
    """The UNet as ComfyUI's SD1.5 with other widths."""

    class Config(comfy.supported_models.SD15):
        unet_extra_config = {"num_heads": heads, "num_head_channels": -1}

    config = Config(comfy.model_detection.detect_unet_config(weights, UNET))
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model(weights, UNET, device=memory.unet_offload_device())
    model.load_model_weights(dict(weights), UNET)
    return comfy.model_patcher.ModelPatcher(
        model, load_device=memory.get_torch_device(), offload_device=memory.unet_offload_device()
    )


def load_text_encoder(weights: dict[str, Tensor], folder: Path, tokens: int | None) -> comfy.sd.CLIP:
    """CLIP by the sizes in `folder/config.json`, its tokenizer by the other files there."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    ids = {"start": config["bos_token_id"], "end": config["eos_token_id"], "pad": config["pad_token_id"]}

    class Encoder(comfy.sd1_clip.SDClipModel):
        def __init__(self, device="cpu", dtype=None, model_options=None):
            super().__init__(
                device=device,
                dtype=dtype,
                textmodel_json_config=dict(config),
                special_tokens=ids,
                return_projected_pooled=False,
                model_options=model_options or {},
            )

    class Model(comfy.sd1_clip.SD1ClipModel):
        def __init__(self, device="cpu", dtype=None, model_options=None):
            super().__init__(device=device, dtype=dtype, model_options=model_options or {}, clip_model=Encoder)

        def encode_token_weights(self, token_weight_pairs):
            encoded, *rest = super().encode_token_weights(token_weight_pairs)
            return encoded[:, :tokens], *rest

    class Words(comfy.sd1_clip.SDTokenizer):
        def __init__(self, embedding_directory=None, tokenizer_data=None):
            super().__init__(
                tokenizer_path=str(folder),
                embedding_directory=embedding_directory,
                embedding_size=config["hidden_size"],
                tokenizer_data=tokenizer_data or {},
            )

    class Tokenizer(comfy.sd1_clip.SD1Tokenizer):
        def __init__(self, embedding_directory=None, tokenizer_data=None):
            super().__init__(embedding_directory, tokenizer_data or {}, tokenizer=Words)

    clip = comfy.sd.CLIP(
        comfy.supported_models_base.ClipTarget(Tokenizer, Model), model_options={"dtype": torch.float32}
    )
    table = weights[EMBEDDING]
    full = torch.nn.functional.pad(table, (0, 0, 0, CLIP_VOCABULARY - len(table)))
    # which the checkpoint lacks, as SD1's do; nothing reads it, but memory that nobody wrote is not for a model
    projection = torch.eye(table.shape[1])
    clip.load_sd(part({**weights, EMBEDDING: full, TEXT + "text_projection.weight": projection}, TEXT))
    return clip
