"""Tiny networks with random weights of the classes that ComfyUI has for its families of image models.

Sizes are small, layouts are ComfyUI's own. Text encoders are the family's own too, with few and narrow layers; their
parts that look at pictures are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import comfy.ldm.anima.model
import comfy.model_patcher
import comfy.sd
import comfy.supported_models as models
import comfy.supported_models_base as bases
import comfy.text_encoders as texts
import comfy.text_encoders.anima
import comfy.text_encoders.aura_t5
import comfy.text_encoders.cosmos
import comfy.text_encoders.ernie
import comfy.text_encoders.flux
import comfy.text_encoders.hidream
import comfy.text_encoders.hunyuan_image
import comfy.text_encoders.krea2
import comfy.text_encoders.lumina2
import comfy.text_encoders.omnigen2
import comfy.text_encoders.pixart_t5
import comfy.text_encoders.qwen3vl
import comfy.text_encoders.qwen_image
import comfy.text_encoders.qwen_vl
import comfy.text_encoders.sd3_clip
import comfy.text_encoders.wan
import comfy.text_encoders.z_image
import tiny_tokenizers
import torch
from torch import nn

WIDE = 64
"""Width of all text encoders."""
SD3_WIDE = 2 * WIDE + 32
CLIP = {"hidden_size": WIDE, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 4}
T5 = {"d_model": WIDE, "d_ff": 64, "d_kv": 32, "num_heads": 2, "num_layers": 2}
LLM = {**CLIP, "num_key_value_heads": 2}
SMALL_VOCABULARY = {"vocab_size": 512}
LLMS = ("qwen3_4b", "qwen3_06b", "qwen25_7b", "qwen25_3b", "llama")
SIZES = {
    **{f"{name}_model_config": CLIP for name in ("clip_l", "clip_g")},
    **{f"{name}_model_config": T5 for name in ("t5xxl", "t5xl", "pile_t5xl")},
    **{f"{name}_model_config": LLM for name in LLMS},
    # it reads twelve layers, the last of them number 35
    "qwen3vl_4b_model_config": {**LLM, "num_hidden_layers": 36},
    "umt5xxl_model_config": T5 | SMALL_VOCABULARY,
    "gemma2_2b_model_config": LLM | SMALL_VOCABULARY,
    "ministral3_3b_model_config": LLM | SMALL_VOCABULARY,
    "dtype": torch.float32,
}


@dataclass(frozen=True)
class Family:
    """A family, small.

    kind: ComfyUI's class. sizes: what its detection finds in a file, but small. words: makes a CLIP. side: of pictures.
    """

    kind: type
    sizes: Mapping
    words: Callable
    side: int = 64


def small_parts() -> None:
    """What has fixed sizes: parts that look at pictures, and Anima's adapter between two text encoders."""
    texts.qwen_vl.Qwen2VLVisionTransformer = lambda **_: nn.Identity()
    texts.qwen3vl.Qwen3VLVisionModel = lambda *_, **__: nn.Identity()
    anima = comfy.ldm.anima.model
    narrow = {"source_dim": WIDE, "target_dim": WIDE, "model_dim": WIDE, "num_layers": 2, "num_heads": 2}
    anima.LLMAdapter = partial(anima.LLMAdapter, **narrow)
    texts.flux.load_mistral_tokenizer = tiny_tokenizers.letters


def randomise(network: nn.Module) -> None:
    """Weights that keep the size of what passes."""
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in network.named_parameters():
            if p.dim() > 1:
                p.normal_(0, p[0].numel() ** -0.5, generator=draw)
            else:
                p.fill_(0.0 if name.endswith("bias") else 1.0)


def clip(tokenizer, encoder, pieces: bool = False, **sizes):
    """A text encoder with random weights. pieces: whether its tokenizer comes out of the checkpoint."""
    data = {"spiece_model": tiny_tokenizers.sentence_pieces()} if pieces else {}
    made = comfy.sd.CLIP(bases.ClipTarget(tokenizer, encoder), tokenizer_data=data, model_options={**SIZES, **sizes})
    randomise(made.cond_stage_model)
    return made


def stable_diffusion_3():
    """Both CLIPs without T5; the zeros that fill each token up to T5's 4096 numbers are left out but for 32."""
    made = clip(texts.sd3_clip.SD3Tokenizer, texts.sd3_clip.sd3_clip(clip_l=True, clip_g=True, t5=False))
    encoder = made.cond_stage_model
    wide = encoder.encode_token_weights

    def narrow(tokens):
        cond, *rest = wide(tokens)
        return cond[..., :SD3_WIDE], *rest

    encoder.encode_token_weights = narrow
    return made


def klein():
    """Qwen 3 with a template; every prompt has 64 tokens in place of 512."""
    sizes = {"qwen3_4b_model_config": {**LLM, "num_hidden_layers": 28}}
    made = clip(texts.flux.KleinTokenizer, texts.flux.klein_te(model_type="qwen3_4b"), **sizes)
    made.tokenizer.qwen3_4b.min_length = 64
    return made


def t5():
    """T5 as PixArt and Chroma read it: as many tokens as a prompt has."""
    return clip(texts.pixart_t5.PixArtTokenizer, texts.pixart_t5.pixart_te())


def qwen_image():
    """Qwen 2.5 with a template around the prompt."""
    return clip(texts.qwen_image.QwenImageTokenizer, texts.qwen_image.te())


def nothing():
    """A text encoder that is never asked."""
    return SimpleNamespace()


FLUX = {"mlp_ratio": 4.0, "num_heads": 2, "depth": 1, "depth_single_blocks": 1, "axes_dim": [16, 24, 24]}
FLUX |= {"in_channels": 16, "out_channels": 16, "theta": 10000, "patch_size": 2, "qkv_bias": True, "hidden_size": 128}
FLUX1 = FLUX | {"image_model": "flux", "guidance_embed": True, "vec_in_dim": WIDE, "context_in_dim": WIDE}
FLUX1 |= {"txt_ids_dims": []}
LUMINA = {"image_model": "lumina2", "n_layers": 2, "n_refiner_layers": 1, "patch_size": 2, "in_channels": 16}
LUMINA |= {"qk_norm": True, "cap_feat_dim": WIDE, "axes_dims": [16, 24, 24], "norm_eps": 1e-5}
COSMOS = {
    **{"max_img_h": 240, "max_img_w": 240, "max_frames": 128, "in_channels": 16, "out_channels": 16},
    **{"patch_spatial": 2, "patch_temporal": 1, "model_channels": 128, "num_blocks": 1, "num_heads": 2},
    **{"concat_padding_mask": True, "crossattn_emb_channels": WIDE, "pos_emb_cls": "rope3d"},
    **{"pos_emb_learnable": True, "pos_emb_interpolation": "crop", "min_fps": 1, "max_fps": 30},
    **{"use_adaln_lora": True, "adaln_lora_dim": 32, "extra_per_block_abs_pos_emb": False},
    **{"rope_h_extrapolation_ratio": 4.0, "rope_w_extrapolation_ratio": 4.0},
    **{"rope_t_extrapolation_ratio": 1.0, "rope_enable_fps_modulation": False},
}
WAN = {"image_model": "wan2.1", "model_type": "t2v", "dim": 128, "ffn_dim": 128, "num_heads": 2, "num_layers": 1}
WAN |= {"text_dim": WIDE, "in_dim": 16, "out_dim": 16}
HUNYUAN = {"image_model": "hunyuan_video", "in_channels": 64, "out_channels": 64, "patch_size": [1, 1]}
HUNYUAN |= {"vec_in_dim": None, "context_in_dim": WIDE, "hidden_size": 64, "mlp_ratio": 4.0, "num_heads": 2}
HUNYUAN |= {"depth": 1, "depth_single_blocks": 1, "axes_dim": [16, 16], "theta": 256, "qkv_bias": True}
HUNYUAN |= {"guidance_embed": False, "byt5": False, "meanflow": False, "use_cond_type_embedding": False}
HUNYUAN |= {"vision_in_dim": None, "meanflow_sum": False}

FAMILIES = {
    "sd3": Family(
        models.SD3,
        {
            **{"in_channels": 16, "out_channels": 16, "patch_size": 2, "depth": 2, "input_size": None},
            **{"adm_in_channels": 128, "context_size": SD3_WIDE, "pos_embed_max_size": 64, "num_patches": 4096},
            **{"pos_embed_scaling_factor": None, "qk_norm": "rms"},
            "context_embedder_config": {
                "target": "torch.nn.Linear",
                "params": {"in_features": SD3_WIDE, "out_features": 128},
            },
        },
        stable_diffusion_3,
    ),
    "flux1": Family(models.Flux, FLUX1, lambda: clip(texts.flux.FluxTokenizer, texts.flux.flux_clip())),
    "flux2_klein": Family(
        models.Flux2,
        {
            **FLUX,
            **{"image_model": "flux2", "in_channels": 128, "out_channels": 128, "vec_in_dim": None},
            **{"context_in_dim": 3 * WIDE, "mlp_ratio": 3.0, "axes_dim": [16] * 4, "theta": 2000},
            **{"patch_size": 1, "qkv_bias": False, "guidance_embed": False, "txt_ids_dims": [3]},
            **{"global_modulation": True, "mlp_silu_act": True, "ops_bias": False},
            **{"default_ref_method": "index", "ref_index_scale": 10.0},
        },
        klein,
    ),
    "chroma": Family(
        models.Chroma,
        {
            **{**FLUX, "in_channels": 64, "out_channels": 64, "image_model": "chroma", "vec_in_dim": None},
            **{"context_in_dim": WIDE, "in_dim": 64, "out_dim": 128, "hidden_dim": 64, "n_layers": 2},
            "txt_ids_dims": [],
        },
        t5,
    ),
    "qwen_image": Family(
        models.QwenImage,
        {
            **{"image_model": "qwen_image", "in_channels": 64, "out_channels": 16, "num_layers": 2},
            **{"attention_head_dim": 32, "num_attention_heads": 2, "joint_attention_dim": WIDE},
            "axes_dims_rope": (8, 12, 12),
        },
        qwen_image,
    ),
    "z_image": Family(
        models.ZImage,
        {
            **{**LUMINA, "dim": 256, "n_heads": 4, "n_kv_heads": 4, "z_image_modulation": True},
            **{"axes_lens": [1536, 512, 512], "pad_tokens_multiple": 32, "time_scale": 1000.0},
            **{"ffn_dim_multiplier": 8 / 3, "rope_theta": 256.0},
        },
        lambda: clip(texts.z_image.ZImageTokenizer, texts.z_image.te()),
    ),
    "lumina2": Family(
        models.Lumina2,
        {
            **{**LUMINA, "dim": 128, "n_heads": 2, "n_kv_heads": 2, "axes_lens": [300, 512, 512]},
            **{"ffn_dim_multiplier": 4.0, "rope_theta": 10000.0},
        },
        lambda: clip(texts.lumina2.LuminaTokenizer, texts.lumina2.te(), pieces=True),
    ),
    "krea2": Family(
        models.Krea2,
        {
            **{"image_model": "krea2", "features": 64, "channels": 16, "patch": 2, "layers": 2, "heads": 2},
            **{"kvheads": 2, "txtlayers": 12, "txtdim": WIDE, "txtheads": 2, "txtkvheads": 2},
        },
        lambda: clip(texts.krea2.Krea2Tokenizer, texts.krea2.te()),
    ),
    "anima": Family(
        models.Anima,
        {**COSMOS, "image_model": "anima"},
        lambda: clip(texts.anima.AnimaTokenizer, texts.anima.te()),
    ),
    "auraflow": Family(
        models.AuraFlow,
        {
            **{"cond_seq_dim": WIDE, "dim": 128, "n_layers": 2, "n_double_layers": 1, "n_heads": 2},
            **{"global_conddim": 128, "max_seq": 64 * 64},
        },
        lambda: clip(texts.aura_t5.AuraT5Tokenizer, texts.aura_t5.AuraT5Model),
    ),
    "pixart_sigma": Family(
        models.PixArtSigma,
        {
            **{"image_model": "pixart_sigma", "hidden_size": 64, "depth": 2, "num_heads": 2, "input_size": None},
            **{"patch_size": 2, "in_channels": 4, "caption_channels": WIDE, "model_max_length": 300},
            **{"micro_condition": False, "pe_interpolation": 2, "learn_sigma": True, "pred_sigma": True},
        },
        t5,
        side=320,
    ),
    "hidream": Family(
        models.HiDream,
        {
            **{"image_model": "hidream", "attention_head_dim": 32, "axes_dims_rope": [16, 8, 8]},
            **{"caption_channels": [WIDE, WIDE], "max_resolution": [128, 128], "in_channels": 16},
            **{"llama_layers": [0, 2, 3], "num_attention_heads": 2, "num_routed_experts": 4},
            **{"num_activated_experts": 2, "num_layers": 1, "num_single_layers": 2, "out_channels": 16},
            **{"patch_size": 2, "text_emb_dim": 128},
        },
        lambda: clip(texts.hidream.HiDreamTokenizer, texts.hidream.hidream_clip()),
    ),
    "hunyuan_image": Family(
        models.HunyuanImage21,
        HUNYUAN,
        lambda: clip(texts.hunyuan_image.HunyuanImageTokenizer, texts.hunyuan_image.te(byt5=False)),
    ),
    "omnigen2": Family(
        models.Omnigen2,
        {
            **{"image_model": "omnigen2", "axes_dim_rope": [8, 12, 12], "axes_lens": [1024, 1664, 1664]},
            **{"ffn_dim_multiplier": None, "hidden_size": 96, "in_channels": 16, "multiple_of": 32},
            **{"norm_eps": 1e-5, "num_attention_heads": 3, "num_kv_heads": 1, "num_layers": 2},
            **{"num_refiner_layers": 1, "out_channels": None, "patch_size": 2, "text_feat_dim": WIDE},
            "timestep_scale": 1000.0,
        },
        lambda: clip(texts.omnigen2.Omnigen2Tokenizer, texts.omnigen2.te()),
    ),
    "ernie": Family(
        models.ErnieImage,
        {
            **{"image_model": "ernie", "hidden_size": 128, "num_attention_heads": 2, "num_layers": 2},
            **{"ffn_hidden_size": 128, "text_in_dim": WIDE, "rope_axes_dim": (16, 24, 24)},
        },
        lambda: clip(texts.ernie.ErnieTokenizer, texts.ernie.te()),
    ),
    "cosmos_predict2": Family(
        models.CosmosT2IPredict2,
        {**COSMOS, "image_model": "cosmos_predict2"},
        lambda: clip(texts.cosmos.CosmosT5Tokenizer, texts.cosmos.te()),
    ),
    "wan_t2v": Family(
        models.WAN21_T2V,
        WAN,
        lambda: clip(texts.wan.WanT5Tokenizer, texts.wan.te(), pieces=True),
    ),
}
"""Models that draw a picture from text alone; those of videos draw one frame."""

REFUSED = {
    "flux_fill": Family(models.FluxInpaint, {**FLUX1, "in_channels": 96}, nothing),
    "wan_i2v": Family(models.WAN21_I2V, {**WAN, "model_type": "i2v", "in_dim": 36}, nothing),
    "hunyuan_refiner": Family(
        models.HunyuanImage21Refiner, {**HUNYUAN, "patch_size": [1, 1, 1], "axes_dim": [8, 12, 12]}, nothing
    ),
    "ace_step": Family(
        models.ACEStep,
        {
            **{"audio_model": "ace", "num_layers": 1, "attention_head_dim": 32, "num_attention_heads": 2},
            **{"text_embedding_dim": WIDE, "lyric_hidden_size": 64, "ssl_latent_dims": [32, 32]},
        },
        nothing,
    ),
}
"""Models that need more than text, or make something else than pictures."""


def built(family: Family):
    """(MODEL, CLIP) of a family."""
    config = family.kind(dict(family.sizes))
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({}, "", device=torch.device("cpu"))
    randomise(model.diffusion_model)
    model.requires_grad_(False)
    device = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=device), family.words()
