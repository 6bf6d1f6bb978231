"""The bundled flow transformer in ComfyUI's own classes: Qwen-Image's network, small, with the demo's other parts."""

from __future__ import annotations

import json
import math
from pathlib import Path

import comfy.latent_formats
import comfy.model_management as memory
import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models
import comfy.supported_models_base
import comfy.text_encoders.t5
import comfy.utils
import torch
from torch import Tensor

from .demo_model import UNET, in_float32, load_companions, part

ENCODER, DEVIATION = "text_encoders.t5.transformer.", "latent_deviation"
HEAD, TOKENS = 32, 16
"""Channels of a head, and tokens of a prompt, which no tensor tells."""
SHIFT = math.log(1.15)
"""How its noise levels are spaced, as ComfyUI counts it."""


def load_flow_demo(file: Path, demo: Path) -> tuple[comfy.model_patcher.ModelPatcher, comfy.sd.CLIP, comfy.sd.VAE]:
    """Model, text encoder and autoencoder, in float32. file: the transformer; demo: the checkpoint beside it."""
    weights = in_float32(file)
    clip, vae, folder = load_companions(demo, TOKENS)
    if own := part(weights, ENCODER):
        clip = load_own_text_encoder(own, folder)
    return load_transformer(weights), clip, vae


def load_transformer(weights: dict[str, Tensor]) -> comfy.model_patcher.ModelPatcher:
    """The transformer as ComfyUI's Qwen-Image with other widths and the demo's latents."""
    own = part(weights, UNET)
    inner, patches = own["img_in.weight"].shape
    sizes = {
        "image_model": "qwen_image",
        "in_channels": patches,
        "out_channels": patches // 4,
        "num_layers": 1 + max(int(n.split(".")[1]) for n in own if n.startswith("transformer_blocks.")),
        "attention_head_dim": HEAD,
        "num_attention_heads": inner // HEAD,
        "joint_attention_dim": own["txt_in.weight"].shape[1],
        "axes_dims_rope": (8, 12, 12),
    }

    class Latents(comfy.latent_formats.SD15):
        latent_dimensions = 3

        def __init__(self) -> None:
            super().__init__(0.18215 / float(weights[DEVIATION]))

    class Config(comfy.supported_models.QwenImage):
        latent_format = Latents
        sampling_settings = {"multiplier": 1.0, "shift": SHIFT}

    config = Config(sizes)
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model(weights, UNET, device=memory.unet_offload_device())
    model.load_model_weights(dict(weights), UNET)
    return comfy.model_patcher.ModelPatcher(
        model, load_device=memory.get_torch_device(), offload_device=memory.unet_offload_device()
    )


def load_own_text_encoder(weights: dict[str, Tensor], folder: Path) -> comfy.sd.CLIP:
    """A T5 encoder, whose tokens depend on the whole prompt, behind the demo's tokenizer in `folder`."""
    ids = json.loads((folder / "config.json").read_text("utf-8"))
    special = {"start": ids["bos_token_id"], "end": ids["eos_token_id"], "pad": ids["pad_token_id"]}
    words, width = weights["shared.weight"].shape
    bias = weights["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
    config = {
        **{"num_layers": sum(n.endswith("SelfAttention.q.weight") for n in weights), "d_model": width},
        **{"d_kv": len(weights["encoder.block.0.layer.0.SelfAttention.q.weight"]) // bias.shape[1]},
        **{"d_ff": len(weights["encoder.block.0.layer.1.DenseReluDense.wi_0.weight"]), "num_heads": bias.shape[1]},
        **{"vocab_size": words, "dense_act_fn": "gelu_pytorch_tanh", "is_gated_act": True, "model_type": "t5"},
    }

    class Encoder(comfy.sd1_clip.SDClipModel):
        def __init__(self, device="cpu", dtype=None, model_options=None):
            super().__init__(
                device=device,
                dtype=dtype,
                max_length=TOKENS,
                textmodel_json_config=config,
                special_tokens=special,
                model_class=comfy.text_encoders.t5.T5,
                model_options=model_options or {},
            )

    class Model(comfy.sd1_clip.SD1ClipModel):
        def __init__(self, device="cpu", dtype=None, model_options=None):
            super().__init__(
                device=device, dtype=dtype, name="t5", clip_model=Encoder, model_options=model_options or {}
            )

    class Words(comfy.sd1_clip.SDTokenizer):
        def __init__(self, embedding_directory=None, tokenizer_data=None):
            super().__init__(
                tokenizer_path=str(folder),
                max_length=TOKENS,
                embedding_directory=embedding_directory,
                embedding_size=width,
                embedding_key="t5",
                tokenizer_data=tokenizer_data or {},
            )

    class Tokenizer(comfy.sd1_clip.SD1Tokenizer):
        def __init__(self, embedding_directory=None, tokenizer_data=None):
            super().__init__(embedding_directory, tokenizer_data or {}, clip_name="t5", tokenizer=Words)

    clip = comfy.sd.CLIP(
        comfy.supported_models_base.ClipTarget(Tokenizer, Model), model_options={"dtype": torch.float32}
    )
    clip.load_sd(weights)
    return clip
