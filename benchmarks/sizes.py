"""Full-size networks with random weights: as large and as slow as the real ones, without a download.

Sizes as published with the models (diffusers' and transformers' configurations of SD1.5 and SDXL).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from unlearn_core.delta import layer_names as keys
from unlearn_core.delta.base_sample import Base
from unlearn_core.delta.layer_names import UNetShape
from unlearn_core.errors import BadSetting
from unlearn_core.standalone.checkpoint import PIXELS, SCALE_FACTOR, Facts
from unlearn_core.standalone.networks import Networks
from unlearn_core.standalone.text_encoders import END, TextEncoder, standard_tokenizer

UNETS: dict[str, dict[str, Any]] = {
    "sd15": {
        "block_out_channels": (320, 640, 1280, 1280),
        "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        "attention_head_dim": 8,
        "cross_attention_dim": 768,
    },
    "sdxl": {
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": (5, 10, 20),
        "cross_attention_dim": 2048,
        "transformer_layers_per_block": (1, 2, 10),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}
NARROW = "sdxl-narrow"
"""SDXL's layout a tenth as wide, to count what depends on the layout and not on the size."""
UNETS[NARROW] = UNETS["sdxl"] | {
    "block_out_channels": (32, 64, 128),
    "attention_head_dim": (1, 2, 4),
    "cross_attention_dim": 256,
    "transformer_layers_per_block": (1, 1, 2),
    "projection_class_embeddings_input_dim": 1696,
}
VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
CLIP = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12}
OPEN_CLIP = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_attention_heads": 20,
    "num_hidden_layers": 32,
    "hidden_act": "gelu",
    "projection_dim": 1280,
}
NARROW_PARTS: tuple[dict[str, Any], ...] = (
    {"block_out_channels": (32, 32, 32, 32)},
    {"hidden_size": 96, "intermediate_size": 384, "num_attention_heads": 4, "num_hidden_layers": 2},
    {
        "hidden_size": 160,
        "intermediate_size": 640,
        "num_attention_heads": 4,
        "num_hidden_layers": 3,
        "projection_dim": 160,
    },
)
"""What is other than in `VAE`, `CLIP` and `OPEN_CLIP`."""
FAMILY = {"sd15": "sd1", "sdxl": "sdxl", NARROW: "sdxl"}
"""The architecture of each size, as delta files call it."""


def random_networks(size: str, seed: int = 0, device: str | torch.device = "cpu") -> Networks:
    """All networks of a size of `UNETS` in float32 with seeded random weights. Raises `BadSetting`.

    device: where the weights are made; drawing billions of numbers on a CPU takes minutes.
    """
    if size not in UNETS:
        raise BadSetting(f"There is no full size '{size}': choose one of {', '.join(UNETS)}.")
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    architecture, tokenizer = FAMILY[size], standard_tokenizer()
    generator = torch.Generator(device).manual_seed(seed)
    sdxl = architecture == "sdxl"
    of_vae, of_clip, of_open_clip = NARROW_PARTS if size == NARROW else ({}, {}, {})
    unet = drawn(UNet2DConditionModel, UNETS[size], generator)
    vae = drawn(AutoencoderKL, VAE | of_vae | {"scaling_factor": SCALE_FACTOR[architecture]}, generator)
    ends = {"bos_token_id": END - 1, "eos_token_id": END}
    clip = drawn(CLIPTextModel, CLIPTextConfig(**CLIP | of_clip, **ends), generator)
    text = [TextEncoder(clip, tokenizer, END, penultimate=sdxl)]
    if sdxl:
        second = drawn(CLIPTextModelWithProjection, CLIPTextConfig(**OPEN_CLIP | of_open_clip, **ends), generator)
        text.append(TextEncoder(second, tokenizer, 0, penultimate=True, pooled=True))
    facts = facts_of(size)
    marks = {n: t for n, t in unet.state_dict().items() if n.endswith(keys.FINGERPRINTED)}
    base = Base.of({keys.diffusers_to_ldm(n, facts.shape): t for n, t in marks.items()})
    return Networks(facts, base, unet, vae, tuple(text))


def facts_of(size: str) -> Facts:
    """What a checkpoint of this size would say of itself."""
    attention = tuple(t.startswith("CrossAttn") for t in UNETS[size]["down_block_types"])
    count = UNETS[size]["attention_head_dim"]
    return Facts(
        architecture=FAMILY[size],
        prediction_type="epsilon",
        shape=UNetShape(2, attention),
        heads=(count,) * len(attention) if isinstance(count, int) else count,
        pixels=PIXELS[FAMILY[size]],
        scale_factor=SCALE_FACTOR[FAMILY[size]],
    )


@torch.no_grad()
def drawn(cls: type, settings: Any, generator: torch.Generator) -> nn.Module:
    """A network whose matrices keep the variance of what goes through them; norms and biases leave it as it is."""
    with torch.device("meta"):
        model = cls.from_config(settings) if isinstance(settings, dict) else cls(settings)
    model = model.to_empty(device=generator.device)
    for tensor in (p for p in model.parameters() if p.dim() > 1):
        tensor.uniform_(-1, 1, generator=generator).mul_((3 / tensor[0].numel()) ** 0.5)
    for module in model.modules():
        if getattr(module, "bias", None) is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, (nn.LayerNorm, nn.GroupNorm)):
            nn.init.ones_(module.weight)
        if isinstance(getattr(module, "position_ids", None), torch.Tensor):
            module.position_ids = torch.arange(module.position_ids.shape[-1], device=generator.device)[None]
    return model
