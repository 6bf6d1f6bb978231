"""Write the trained networks as one original-layout (LDM) checkpoint with its yaml, classifier and notice."""

import json
import re
from pathlib import Path

import torch
from safetensors.torch import save_file

import pictures as P
from networks import POSITIONS, TEXT_WIDTH
from unlearn_core.delta import layer_names as keys

UNET_SHAPE = keys.UNetShape(layers_per_block=1, attention=(False, True))
VAE_NAMES = (
    (r"coder\.mid_block\.resnets\.0", "coder.mid.block_1"),
    (r"coder\.mid_block\.resnets\.1", "coder.mid.block_2"),
    (r"coder\.mid_block\.attentions\.0", "coder.mid.attn_1"),
    (r"attn_1\.group_norm", "attn_1.norm"),
    (r"attn_1\.to_out\.0", "attn_1.proj_out"),
    (r"attn_1\.to_([qkv])", r"attn_1.\1"),
    (r"down_blocks\.(\d)\.resnets\.(\d)", r"down.\1.block.\2"),
    (r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample"),
    (r"up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"up.{3 - int(m[1])}.block.{m[2]}"),
    (r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{3 - int(m[1])}.upsample"),
    (r"conv_shortcut", "nin_shortcut"),
    (r"conv_norm_out", "norm_out"),
)
YAML = """model:
  target: ldm.models.diffusion.ddpm.LatentDiffusion
  params:
    linear_start: 0.00085
    linear_end: 0.012
    num_timesteps_cond: 1
    log_every_t: 200
    timesteps: 1000
    first_stage_key: jpg
    cond_stage_key: txt
    image_size: 16
    channels: 4
    cond_stage_trainable: false
    conditioning_key: crossattn
    monitor: val/loss_simple_ema
    scale_factor: 0.18215
    use_ema: false
    unet_config:
      target: ldm.modules.diffusionmodules.openaimodel.UNetModel
      params:
        image_size: 16
        in_channels: 4
        out_channels: 4
        model_channels: 64
        attention_resolutions: [2]
        num_res_blocks: 1
        channel_mult: [1, 2]
        num_heads: 4
        use_spatial_transformer: true
        transformer_depth: 1
        context_dim: {width}
        use_checkpoint: false
        legacy: false
    first_stage_config:
      target: ldm.models.autoencoder.AutoencoderKL
      params:
        embed_dim: 4
        monitor: val/rec_loss
        ddconfig:
          double_z: true
          z_channels: 4
          resolution: {size}
          in_channels: 3
          out_ch: 3
          ch: 32
          ch_mult: [1, 1, 2, 2]
          num_res_blocks: 1
          attn_resolutions: []
          dropout: 0.0
        lossconfig:
          target: torch.nn.Identity
    cond_stage_config:
      target: ldm.modules.encoders.modules.FrozenCLIPEmbedder
      params:
        version: tokenizer
"""


def vae_name(name: str) -> str:
    for pattern, replacement in VAE_NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def checkpoint(unet, text, vae) -> dict[str, torch.Tensor]:
    """All weights under their original names, fp16."""
    weights = {}
    for name, value in unet.state_dict().items():
        weights["model.diffusion_model." + keys.diffusers_to_ldm(name, UNET_SHAPE)] = value
    for name, value in vae.state_dict().items():
        ldm = vae_name(name)
        is_projection = re.search(r"attn_1\.(q|k|v|proj_out)\.weight", ldm)
        weights["first_stage_model." + ldm] = value[:, :, None, None] if is_projection else value
    for name, value in text.state_dict().items():
        if "position_ids" not in name:
            weights["cond_stage_model.transformer.text_model." + name.removeprefix("text_model.")] = value
    return {k: v.detach().half().contiguous() for k, v in weights.items()}


def export(unet, text, vae, classifier, out: Path) -> None:
    """Write demo.safetensors, demo.yaml, classifier.safetensors and the text encoder's config into `out`."""
    save_file(checkpoint(unet, text, vae), out / "demo.safetensors", {"format": "pt"})
    (out / "demo.yaml").write_text(YAML.format(width=TEXT_WIDTH, size=P.SIZE), encoding="utf-8")
    config = text.config.to_diff_dict() | {"architectures": ["CLIPTextModel"], "max_position_embeddings": POSITIONS}
    (out / "tokenizer" / "config.json").write_text(
        json.dumps({k: v for k, v in sorted(config.items()) if k not in ("dtype", "transformers_version")}, indent=1)
        + "\n",
        encoding="utf-8",
    )
    names = {"objects": ",".join(classifier.objects[:-1]), "styles": ",".join(classifier.styles[:-1])}
    save_file(
        {k: v.half().contiguous() for k, v in classifier.state_dict().items() if v.is_floating_point()},
        out / "classifier.safetensors",
        names,
    )
