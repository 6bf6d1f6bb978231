"""Names of other families' files, so that a refusal says what a file is."""

from __future__ import annotations

from collections.abc import Collection

# (what is in the name of one of its tensors, what it is); the first that fits counts
FAMILIES = (
    ("lora_down.", "a LoRA, not a checkpoint"),
    ("lora_A.", "a LoRA, not a checkpoint"),
    ("lora_up.", "a LoRA, not a checkpoint"),
    ("hada_w1", "a LyCORIS, not a checkpoint"),
    ("string_to_param", "an embedding, not a checkpoint"),
    ("emb_params", "an embedding, not a checkpoint"),
    ("control_model.", "a ControlNet"),
    ("input_hint_block.", "a ControlNet"),
    ("controlnet_cond_embedding.", "a ControlNet"),
    ("motion_modules.", "a motion module (AnimateDiff)"),
    ("distilled_guidance_layer.", "a Chroma model"),
    ("double_stream_blocks.", "a HiDream model"),
    ("txt_in.individual_token_refiner", "a Hunyuan Video model"),
    ("double_blocks.", "a Flux model (or of a family like it)"),
    ("single_transformer_blocks.", "a Flux model (or of a family like it)"),
    ("joint_blocks.", "a Stable Diffusion 3 model"),
    ("double_layers.", "an AuraFlow model"),
    (".img_mod.", "a Qwen-Image model"),
    ("cap_embedder.", "a Lumina or Z-Image model"),
    ("mlp_t5.", "a Hunyuan DiT model"),
    ("clip_txt_pooled_mapper.", "a Stable Cascade model"),
    ("caption_projection.", "a PixArt or Sana model"),
    ("csp.", "a PixArt model"),
    ("patchify_proj.", "an LTX Video model"),
    ("adaln_single.", "a PixArt or LTX Video model"),
    ("head.modulation", "a Wan video model"),
    ("net.x_embedder.", "a Cosmos or Anima model"),
    ("time_stack.", "a Stable Video Diffusion model"),
    ("down_blocks.", "a part of a model in diffusers' layout: give the whole folder"),
    ("decoder.conv_in.", "an autoencoder (VAE) alone"),
    ("text_model.", "a text encoder alone"),
    ("encoder.block.", "a text encoder (T5) alone"),
    ("body.0.rdb1.", "an upscaler"),
)


def told_family(names: Collection[str]) -> str:
    """What a file of these tensors is, "" where nothing is known of them."""
    for mark, what in FAMILIES:
        if any(mark in name for name in names):
            return what
    return ""
