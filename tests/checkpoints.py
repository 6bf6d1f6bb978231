"""Small checkpoints with random weights in the original single-file layout of SD1, SD2 and SDXL.

The denoiser and the autoencoder are diffusers' own networks, renamed; OpenCLIP is written out here, as its own
package builds it, so that what the product reads can be compared with it.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from unlearn_core.delta import layer_names as keys
from unlearn_core.delta.layer_names import UNetShape

WORDS = 49408
CLIP_WIDTH, OPEN_CLIP_WIDTH = 64, 64
"""One attention head each."""
SHAPES = {
    "sd1": UNetShape(2, (True, True, True, False)),
    "sd2": UNetShape(2, (True, True, True, False)),
    "sdxl": UNetShape(2, (False, True, True)),
}
CONTEXT = {"sd1": CLIP_WIDTH, "sd2": OPEN_CLIP_WIDTH, "sdxl": CLIP_WIDTH + OPEN_CLIP_WIDTH}
WIDTHS = {"sd1": (32, 32, 64, 64), "sd2": (64, 64, 128, 128), "sdxl": (64, 64, 128)}
DEPTHS = {"sd1": (1, 1, 1, 1), "sd2": (1, 1, 1, 1), "sdxl": (1, 2, 3)}
SIZE_WIDTH = 8
"""Width of the embedding of each of SDXL's six numbers."""


class OpenClip(nn.Module):
    """OpenCLIP's text tower: pre-norm blocks under a causal mask."""

    class Block(nn.Module):
        def __init__(self, width: int):
            super().__init__()
            self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.attn = nn.MultiheadAttention(width, max(1, width // 64), batch_first=True)
            self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})

        def forward(self, x: Tensor) -> Tensor:
            mask = torch.full((x.shape[1], x.shape[1]), -torch.inf).triu(1)
            h = self.ln_1(x)
            x = x + self.attn(h, h, h, attn_mask=mask, need_weights=False)[0]
            return x + self.mlp["c_proj"](nn.functional.gelu(self.mlp["c_fc"](self.ln_2(x))))

    def __init__(self, width: int, layers: int, words: int = WORDS):
        super().__init__()
        self.token_embedding = nn.Embedding(words, width)
        self.positional_embedding = nn.Parameter(torch.randn(77, width) * 0.1)
        blocks = nn.ModuleList([self.Block(width) for _ in range(layers)])
        self.transformer = nn.ModuleDict({"resblocks": blocks})
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.randn(width, width) / width**0.5)

    @torch.no_grad()
    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(output of the last block but one `[b, 77, d]`, projected end token `[b, d]`)."""
        x = self.token_embedding(tokens) + self.positional_embedding
        for block in self.transformer["resblocks"]:
            before, x = x, block(x)
        ends = tokens.argmax(1)
        return before, self.ln_final(x)[range(len(x)), ends] @ self.text_projection


def unet(kind: str) -> nn.Module:
    """diffusers' UNet of a kind, small, with all weights drawn (some are zero when it is made)."""
    from diffusers import UNet2DConditionModel

    shape = SHAPES[kind]
    options = {}
    if kind == "sdxl":
        options = {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": SIZE_WIDTH,
            "projection_class_embeddings_input_dim": OPEN_CLIP_WIDTH + 6 * SIZE_WIDTH,
        }
    return UNet2DConditionModel(
        block_out_channels=WIDTHS[kind],
        down_block_types=tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in shape.attention),
        up_block_types=tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(shape.attention)),
        layers_per_block=shape.layers_per_block,
        attention_head_dim=8 if kind == "sd1" else tuple(w // 64 for w in WIDTHS[kind]),
        cross_attention_dim=CONTEXT[kind],
        transformer_layers_per_block=DEPTHS[kind],
        use_linear_projection=kind != "sd1",
        **options,
    )


def vae() -> nn.Module:
    """diffusers' autoencoder, 32 wide."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(32, 32, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=4,
    )


def clip() -> nn.Module:
    """transformers' CLIP text encoder, three layers."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            hidden_size=CLIP_WIDTH,
            intermediate_size=2 * CLIP_WIDTH,
            num_attention_heads=1,
            num_hidden_layers=3,
            vocab_size=WORDS,
            bos_token_id=49406,
            eos_token_id=49407,
        )
    )


def original_vae_name(name: str, levels: int = 4) -> str:
    """diffusers' name of an autoencoder's tensor in the original layout."""
    name = re.sub(r"down_blocks\.(\d+)\.resnets\.(\d+)", r"down.\1.block.\2", name)
    name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(r"up_blocks\.(\d+)\.resnets\.(\d+)", lambda m: f"up.{levels - 1 - int(m[1])}.block.{m[2]}", name)
    name = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0", lambda m: f"up.{levels - 1 - int(m[1])}.upsample", name)
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    for theirs, original in {
        "mid_block.attentions.0.group_norm": "mid.attn_1.norm",
        "mid_block.attentions.0.to_q": "mid.attn_1.q",
        "mid_block.attentions.0.to_k": "mid.attn_1.k",
        "mid_block.attentions.0.to_v": "mid.attn_1.v",
        "mid_block.attentions.0.to_out.0": "mid.attn_1.proj_out",
        "conv_norm_out": "norm_out",
        "conv_shortcut": "nin_shortcut",
    }.items():
        name = name.replace(theirs, original)
    return name


def prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """All names with something in front."""
    return {prefix + n: t for n, t in state.items()}


def clip_state(model: nn.Module) -> dict[str, Tensor]:
    """A CLIP encoder's tensors as checkpoints name them; transformers 5 leaves out the first part."""
    return {"text_model." + n.removeprefix("text_model."): t for n, t in model.state_dict().items()}


class Small:
    """The parts of a small checkpoint and its tensors in the original layout."""

    def __init__(self, kind: str, seed: int = 0):
        torch.manual_seed(seed)
        self.kind = kind
        self.unet, self.vae = unet(kind).eval(), vae().eval()
        self.clip = clip().eval() if kind != "sd2" else None
        self.open_clip = OpenClip(OPEN_CLIP_WIDTH, 4).eval() if kind != "sd1" else None
        self.tensors = prefixed(
            "model.diffusion_model.",
            {keys.diffusers_to_ldm(n, SHAPES[kind]): t for n, t in self.unet.state_dict().items()},
        )
        for name, t in self.vae.state_dict().items():
            original = original_vae_name(name)
            square = ".attn_1." in original and t.dim() == 2
            self.tensors["first_stage_model." + original] = t[:, :, None, None] if square else t
        if kind == "sd1":
            self.tensors |= prefixed("cond_stage_model.transformer.", clip_state(self.clip))
        elif kind == "sd2":
            self.tensors |= prefixed("cond_stage_model.model.", self.open_clip.state_dict())
        else:
            self.tensors |= prefixed("conditioner.embedders.0.transformer.", clip_state(self.clip))
            self.tensors |= prefixed("conditioner.embedders.1.model.", self.open_clip.state_dict())

    def write(self, file: Path, dtype: torch.dtype = torch.float32, **extra: Tensor) -> Path:
        """Save as `file` with extra tensors (dots as double underscores) in it; returns the file."""
        tensors = {n: t.detach().to(dtype).contiguous().clone() for n, t in self.tensors.items()}
        save_file(tensors | {n.replace("__", "."): t for n, t in extra.items()}, file)
        return file
