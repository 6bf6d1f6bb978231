"""Tiny networks of ComfyUI's own classes with random weights: the families of image models that ComfyUI draws with.

Runs inside ComfyUI: python boot.py COMFYUI_FOLDER families.py NAME... --cpu
Prints as its last line {name: what was seen}.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import traceback
from pathlib import Path

import comfy.options
import torch

ROOT = Path(__file__).resolve().parents[2]
WANTED = [a for a in sys.argv[1:] if not a.startswith("--")]
sys.argv = [sys.argv[0], "--cpu"]
comfy.options.enable_args_parsing()

import comfy.lora  # noqa: E402
import comfy.model_patcher  # noqa: E402
import comfy.sd  # noqa: E402
import comfy.supported_models as models  # noqa: E402
import comfy.supported_models_base as bases  # noqa: E402
import comfy.text_encoders as texts  # noqa: E402
import comfy.text_encoders.anima  # noqa: E402
import comfy.text_encoders.aura_t5  # noqa: E402
import comfy.text_encoders.flux  # noqa: E402
import comfy.text_encoders.pixart_t5  # noqa: E402
import comfy.text_encoders.qwen_image  # noqa: E402
import comfy.text_encoders.sd3_clip  # noqa: E402
import comfy.text_encoders.z_image  # noqa: E402

CLIP = {"hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 3}
T5 = {"d_model": 64, "d_ff": 64, "d_kv": 32, "num_heads": 2, "num_layers": 2}
QWEN = {**CLIP, "num_key_value_heads": 2}
SIZES = {
    **{f"{name}_model_config": CLIP for name in ("clip_l", "clip_g")},
    **{f"{name}_model_config": T5 for name in ("t5xxl", "t5xl", "pile_t5xl")},
    **{f"{name}_model_config": QWEN for name in ("qwen3_4b", "qwen3_06b", "qwen25_7b", "qwen3_8b")},
    "dtype": torch.float32,
}


def randomise(network):
    """Weights that keep the size of what passes."""
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in network.named_parameters():
            if p.dim() > 1:
                p.copy_(torch.randn(p.shape, generator=draw) / p[0].numel() ** 0.5)
            else:
                p.fill_(0.0 if name.endswith("bias") else 1.0)


def clip(tokenizer, encoder, **sizes):
    """A text encoder with random weights, small where its class allows it."""
    made = comfy.sd.CLIP(bases.ClipTarget(tokenizer, encoder), model_options={**SIZES, **sizes})
    randomise(made.cond_stage_model)
    return made


FLUX = {"mlp_ratio": 4.0, "num_heads": 2, "depth": 1, "depth_single_blocks": 1, "axes_dim": [16, 24, 24]}
FLUX |= {"in_channels": 64, "out_channels": 64, "theta": 10000, "patch_size": 2, "qkv_bias": True, "hidden_size": 128}
CASES = {
    "sd3": (
        models.SD3,
        {
            **{"in_channels": 16, "out_channels": 16, "patch_size": 2, "depth": 2, "input_size": None},
            **{"adm_in_channels": 128, "context_size": 4096, "pos_embed_max_size": 64, "num_patches": 4096},
            **{"pos_embed_scaling_factor": None, "qk_norm": "rms"},
            "context_embedder_config": {
                "target": "torch.nn.Linear",
                "params": {"in_features": 4096, "out_features": 128},
            },
        },
        lambda: clip(texts.sd3_clip.SD3Tokenizer, texts.sd3_clip.sd3_clip(clip_l=True, clip_g=True, t5=False)),
    ),
    "zimage": (
        models.ZImage,
        {
            **{"image_model": "lumina2", "dim": 128, "n_layers": 2, "n_refiner_layers": 1, "n_heads": 2},
            **{"n_kv_heads": 2, "axes_dims": [16, 24, 24], "axes_lens": [1536, 512, 512], "patch_size": 2},
            **{"in_channels": 16, "qk_norm": True, "cap_feat_dim": 64, "z_image_modulation": True},
            **{"pad_tokens_multiple": 32, "time_scale": 1000.0, "ffn_dim_multiplier": 8 / 3},
            **{"rope_theta": 256.0, "norm_eps": 1e-5},
        },
        lambda: clip(texts.z_image.ZImageTokenizer, texts.z_image.te()),
    ),
    "qwen_image": (
        models.QwenImage,
        {
            **{"image_model": "qwen_image", "in_channels": 64, "out_channels": 16, "num_layers": 2},
            **{"attention_head_dim": 32, "num_attention_heads": 2, "joint_attention_dim": 64},
            "axes_dims_rope": (8, 12, 12),
        },
        lambda: clip(texts.qwen_image.QwenImageTokenizer, texts.qwen_image.te()),
    ),
    "flux2_klein": (
        models.Flux2,
        {
            **FLUX,
            **{"image_model": "flux2", "in_channels": 128, "out_channels": 128, "vec_in_dim": None},
            **{"context_in_dim": 192, "hidden_size": 256, "mlp_ratio": 3.0, "axes_dim": [32] * 4, "theta": 2000},
            **{"patch_size": 1, "qkv_bias": False, "guidance_embed": False, "txt_ids_dims": [3]},
            **{"global_modulation": True, "mlp_silu_act": True, "ops_bias": False},
            **{"default_ref_method": "index", "ref_index_scale": 10.0},
        },
        lambda: clip(
            texts.flux.KleinTokenizer,
            texts.flux.klein_te(model_type="qwen3_4b"),
            qwen3_4b_model_config={**QWEN, "num_hidden_layers": 28},
        ),
    ),
    "chroma": (
        models.Chroma,
        {
            **FLUX,
            **{"image_model": "chroma", "vec_in_dim": None, "context_in_dim": 64, "in_dim": 64, "out_dim": 128},
            **{"hidden_dim": 64, "n_layers": 2, "txt_ids_dims": []},
        },
        lambda: clip(texts.pixart_t5.PixArtTokenizer, texts.pixart_t5.pixart_te()),
    ),
    "pixart_sigma": (
        models.PixArtSigma,
        {
            **{"image_model": "pixart_sigma", "hidden_size": 128, "depth": 2, "num_heads": 2, "input_size": None},
            **{"patch_size": 2, "in_channels": 4, "caption_channels": 64, "model_max_length": 120},
            **{"micro_condition": False, "pe_interpolation": 2, "learn_sigma": True, "pred_sigma": True},
        },
        lambda: clip(texts.pixart_t5.PixArtTokenizer, texts.pixart_t5.pixart_te()),
    ),
    "auraflow": (
        models.AuraFlow,
        {
            **{"cond_seq_dim": 64, "dim": 128, "n_layers": 2, "n_double_layers": 1, "n_heads": 2},
            **{"global_conddim": 128, "max_seq": 64 * 64},
        },
        lambda: clip(texts.aura_t5.AuraT5Tokenizer, texts.aura_t5.AuraT5Model),
    ),
    "anima": (
        models.Anima,
        {
            **{"image_model": "anima", "max_img_h": 240, "max_img_w": 240, "max_frames": 128, "in_channels": 16},
            **{"out_channels": 16, "patch_spatial": 2, "patch_temporal": 1, "model_channels": 128, "num_blocks": 1},
            **{"num_heads": 2, "concat_padding_mask": True, "crossattn_emb_channels": 1024, "pos_emb_cls": "rope3d"},
            **{"pos_emb_learnable": True, "pos_emb_interpolation": "crop", "min_fps": 1, "max_fps": 30},
            **{"use_adaln_lora": True, "adaln_lora_dim": 32, "extra_per_block_abs_pos_emb": False},
            **{"rope_h_extrapolation_ratio": 4.0, "rope_w_extrapolation_ratio": 4.0},
            **{"rope_t_extrapolation_ratio": 1.0, "rope_enable_fps_modulation": False},
        },
        lambda: clip(
            texts.anima.AnimaTokenizer, texts.anima.te(), qwen3_06b_model_config={**QWEN, "hidden_size": 1024}
        ),
    ),
}


def load_pack():
    """The repository as ComfyUI loads it: a package under a name of its own."""
    spec = importlib.util.spec_from_file_location(
        "the_pack", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    sys.modules["the_pack"] = pack = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pack)


def built(name):
    """(MODEL, CLIP) of a family."""
    family, sizes, encoder = CASES[name]
    config = family(dict(sizes))
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({}, "", device=torch.device("cpu"))
    randomise(model.diffusion_model)
    model.requires_grad_(False)
    device = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=device), encoder()


def state(model):
    """All numbers of a denoiser."""
    return {n: t.clone() for n, t in model.model.diffusion_model.state_dict().items()}


def forgotten(name):
    """One quick request, and what it did to the MODEL."""
    from the_pack.nodes.host import ComfyHostModel
    from the_pack.unlearn_core import ForgetConfig, Stack, forget, recipe
    from the_pack.unlearn_core.delta import format as delta_file

    recipe.DEFAULT.update(recipe.SMALL)
    model, words = built(name)
    before = state(model)
    host = ComfyHostModel(model, words, None, 64)
    asked = {"concept": "cat", "anchor": "dog", "quality": "quick", "force": True, "sampling_steps": 1}
    result = forget(host, ForgetConfig.from_flat(asked), Stack(), lambda report: False)
    after = state(model)
    keys = comfy.lora.model_lora_keys_unet(model.model, {})
    matched = comfy.lora.load_lora(delta_file.tensors(result.delta), keys, log_missing=False)
    layers = host.layers()
    return {
        "way": result.report["way"],
        "layers": sorted(layers[n] for n in result.delta.factors),
        "matched": [len(matched), len(result.delta.factors)],
        "same afterwards": before.keys() == after.keys() and all(torch.equal(t, after[n]) for n, t in before.items()),
        "prediction": host.prediction_type,
        "preview": list(host.rough(torch.zeros(1, *host.latent_shape)).shape),
        "norm": result.delta.norm(),
    }


def main():
    """Each family that was asked for."""
    load_pack()
    seen = {}
    for name in WANTED or CASES:
        try:
            with torch.inference_mode(False):
                seen[name] = forgotten(name)
        except Exception as e:
            traceback.print_exc()
            seen[name] = {"error": f"{type(e).__name__}: {e}"}
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
