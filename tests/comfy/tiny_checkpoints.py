"""Single-file checkpoints with random weights that real ComfyUI takes for SD1.5, SD2, SDXL and Flux; about 1 MB each.

ComfyUI's detection fixes some widths (320 for the UNets, 3072 for Flux, the text encoders' sizes), not how many blocks
there are. In the file every matrix is a window of one random buffer, which only torch's own format keeps: .ckpt.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

UNET_WIDTH, WORDS, POSITIONS = 320, 49408, 77
POOL = 140_000
STRIDE = 9973
"""A prime, so that the windows start at different places."""


class Weights:
    """Named tensors whose numbers all lie in a few small buffers."""

    def __init__(self, seed: int):
        self.tensors: dict[str, Tensor] = {}
        self._random = torch.Generator().manual_seed(seed)
        self._pools: dict[float, Tensor] = {}
        self._drawn = 0

    def draw(self, name: str, shape: Sequence[int], deviation: float) -> None:
        """Normal numbers of about that deviation. Rows overlap, so the matrix is Toeplitz-like but of full rank."""
        deviation = 2.0 ** round(math.log2(deviation))
        if deviation not in self._pools:
            self._pools[deviation] = (torch.randn(POOL, generator=self._random) * deviation).half()
        pool = self._pools[deviation]
        inner = [math.prod(shape[i + 1 :]) for i in range(1, len(shape))]
        start = self._drawn % (POOL - shape[0] - math.prod(shape[1:]))
        self.tensors[name] = pool.as_strided(tuple(shape), (1, *inner), start)
        self._drawn += STRIDE

    def constant(self, name: str, value: float, size: int) -> None:
        """One number, repeated."""
        self.tensors[name] = torch.full((1,), value).half().expand(size)

    def layer(self, name: str, shape: Sequence[int], gain: float = 1.0, bias: bool = True) -> None:
        """A linear layer or convolution that keeps the size of its input, times `gain`."""
        self.draw(name + ".weight", shape, gain / math.sqrt(math.prod(shape[1:])))
        if bias:
            self.constant(name + ".bias", 0.0, shape[0])

    def norm(self, name: str, size: int) -> None:
        """A normalisation that does nothing more."""
        self.constant(name + ".weight", 1.0, size)
        self.constant(name + ".bias", 0.0, size)


# Denoisers


def residual(w: Weights, name: str, before: int, after: int) -> None:
    """A residual block of the UNet."""
    w.norm(f"{name}.in_layers.0", before)
    w.layer(f"{name}.in_layers.2", (after, before, 3, 3))
    w.layer(f"{name}.emb_layers.1", (after, 4 * UNET_WIDTH))
    w.norm(f"{name}.out_layers.0", after)
    w.layer(f"{name}.out_layers.3", (after, after, 3, 3), 0.3)
    if before != after:
        w.layer(f"{name}.skip_connection", (after, before, 1, 1))


def transformer(w: Weights, name: str, depth: int, context: int, linear: bool) -> None:
    """Attention blocks of the UNet; `linear` is how SD2 and SDXL project."""
    width = UNET_WIDTH
    w.norm(f"{name}.norm", width)
    w.layer(f"{name}.proj_in", (width, width) if linear else (width, width, 1, 1))
    for i in range(depth):
        block = f"{name}.transformer_blocks.{i}"
        for attention, source in (("attn1", width), ("attn2", context)):
            w.layer(f"{block}.{attention}.to_q", (width, width), bias=False)
            w.layer(f"{block}.{attention}.to_k", (width, source), bias=False)
            w.layer(f"{block}.{attention}.to_v", (width, source), bias=False)
            w.layer(f"{block}.{attention}.to_out.0", (width, width), 0.5)
        w.layer(f"{block}.ff.net.0.proj", (8 * width, width))
        w.layer(f"{block}.ff.net.2", (width, 4 * width), 0.5)
        for n in (1, 2, 3):
            w.norm(f"{block}.norm{n}", width)
    w.layer(f"{name}.proj_out", (width, width) if linear else (width, width, 1, 1), 0.3)


def unet(
    w: Weights, blocks: Sequence[int], down: Sequence[int], middle: int, up: Sequence[int], context: int, **kind
) -> None:
    """A UNet that is 320 wide at every level.

    blocks: residual blocks of each level. down, up: transformer depth of each input and output block, in their order
    in the file; middle: in the middle. kind: linear, and labels, the width of SDXL's extra vector.
    """
    root, width, linear = "model.diffusion_model", UNET_WIDTH, kind.get("linear", False)
    w.layer(f"{root}.time_embed.0", (4 * width, width))
    w.layer(f"{root}.time_embed.2", (4 * width, 4 * width))
    if labels := kind.get("labels"):
        w.layer(f"{root}.label_emb.0.0", (4 * width, labels))
        w.layer(f"{root}.label_emb.0.2", (4 * width, 4 * width))
    w.layer(f"{root}.input_blocks.0.0", (width, 4, 3, 3))
    depths, number = iter(down), 1
    for level, count in enumerate(blocks):
        for _ in range(count):
            residual(w, f"{root}.input_blocks.{number}.0", width, width)
            if depth := next(depths):
                transformer(w, f"{root}.input_blocks.{number}.1", depth, context, linear)
            number += 1
        if level < len(blocks) - 1:
            w.layer(f"{root}.input_blocks.{number}.0.op", (width, width, 3, 3))
            number += 1
    residual(w, f"{root}.middle_block.0", width, width)
    transformer(w, f"{root}.middle_block.1", middle, context, linear)
    residual(w, f"{root}.middle_block.2", width, width)
    depths, number = iter(up), 0
    for level in reversed(range(len(blocks))):
        for i in range(blocks[level] + 1):
            residual(w, f"{root}.output_blocks.{number}.0", 2 * width, width)
            if depth := next(depths):
                transformer(w, f"{root}.output_blocks.{number}.1", depth, context, linear)
            if level and i == blocks[level]:
                w.layer(f"{root}.output_blocks.{number}.{2 if depth else 1}.conv", (width, width, 3, 3))
            number += 1
    w.norm(f"{root}.out.0", width)
    w.layer(f"{root}.out.2", (4, width, 3, 3))


def flux(w: Weights, width: int = 3072, blocks: int = 1, context: int = 768) -> None:
    """Flux with `blocks` of each kind; its text is as wide as SD1's encoder, so that one's conditioning fits."""
    root, inner = "model.diffusion_model", 4 * width
    for name, source in (("img_in", 64), ("txt_in", context)):
        w.layer(f"{root}.{name}", (width, source))
    for name, source in (("time_in", 256), ("vector_in", context), ("guidance_in", 256)):
        w.layer(f"{root}.{name}.in_layer", (width, source))
        w.layer(f"{root}.{name}.out_layer", (width, width))
    for i in range(blocks):
        for stream in ("img", "txt"):
            block = f"{root}.double_blocks.{i}.{stream}"
            w.layer(f"{block}_mod.lin", (6 * width, width), 0.3)
            w.layer(f"{block}_attn.qkv", (3 * width, width))
            w.layer(f"{block}_attn.proj", (width, width), 0.5)
            w.layer(f"{block}_mlp.0", (inner, width))
            w.layer(f"{block}_mlp.2", (width, inner), 0.5)
            for which in ("query", "key"):
                w.constant(f"{block}_attn.norm.{which}_norm.scale", 1.0, 128)
        block = f"{root}.single_blocks.{i}"
        w.layer(f"{block}.modulation.lin", (3 * width, width), 0.3)
        w.layer(f"{block}.linear1", (3 * width + inner, width))
        w.layer(f"{block}.linear2", (width, width + inner), 0.5)
        for which in ("query", "key"):
            w.constant(f"{block}.norm.{which}_norm.scale", 1.0, 128)
    w.layer(f"{root}.final_layer.adaLN_modulation.1", (2 * width, width), 0.3)
    w.layer(f"{root}.final_layer.linear", (64, width))


# Text encoders


def clip(w: Weights, root: str) -> None:
    """CLIP's text encoder of SD1 and SDXL in the layout of transformers: 12 layers of 768."""
    width = 768
    w.draw(f"{root}.embeddings.token_embedding.weight", (WORDS, width), 0.4)
    w.draw(f"{root}.embeddings.position_embedding.weight", (POSITIONS, width), 0.1)
    for i in range(12):
        layer = f"{root}.encoder.layers.{i}"
        for name in ("q_proj", "k_proj", "v_proj"):
            w.layer(f"{layer}.self_attn.{name}", (width, width))
        w.layer(f"{layer}.self_attn.out_proj", (width, width), 0.5)
        w.layer(f"{layer}.mlp.fc1", (4 * width, width))
        w.layer(f"{layer}.mlp.fc2", (width, 4 * width), 0.5)
        w.norm(f"{layer}.layer_norm1", width)
        w.norm(f"{layer}.layer_norm2", width)
    w.norm(f"{root}.final_layer_norm", width)


def open_clip(w: Weights, root: str, layers: int, width: int) -> None:
    """The text encoder of SD2 (24 layers of 1024) or the second one of SDXL (32 of 1280)."""
    w.draw(f"{root}.token_embedding.weight", (WORDS, width), 0.4)
    w.draw(f"{root}.positional_embedding", (POSITIONS, width), 0.1)
    w.draw(f"{root}.text_projection", (width, width), 1 / math.sqrt(width))
    w.tensors[f"{root}.logit_scale"] = torch.tensor(4.6).half()
    for i in range(layers):
        layer = f"{root}.transformer.resblocks.{i}"
        w.draw(f"{layer}.attn.in_proj_weight", (3 * width, width), 1 / math.sqrt(width))
        w.constant(f"{layer}.attn.in_proj_bias", 0.0, 3 * width)
        w.layer(f"{layer}.attn.out_proj", (width, width), 0.5)
        w.layer(f"{layer}.mlp.c_fc", (4 * width, width))
        w.layer(f"{layer}.mlp.c_proj", (width, 4 * width), 0.5)
        w.norm(f"{layer}.ln_1", width)
        w.norm(f"{layer}.ln_2", width)
    w.norm(f"{root}.ln_final", width)


# Autoencoder


def small_autoencoder(w: Weights, root: str = "first_stage_model", channels: int = 4, scale: float = 0.18215) -> None:
    """The small stand-in autoencoder (TAESD) that ComfyUI accepts in a checkpoint; its pictures are about mid grey."""

    def block(name: str) -> None:
        for i in (0, 2, 4):
            w.layer(f"{name}.conv.{i}", (64, 64, 3, 3), 0.5)

    w.tensors[f"{root}.vae_scale"], w.tensors[f"{root}.vae_shift"] = torch.tensor(scale), torch.tensor(0.0)
    encoder, decoder = f"{root}.taesd_encoder", f"{root}.taesd_decoder"
    w.layer(f"{encoder}.0", (64, 3, 3, 3))
    block(f"{encoder}.1")
    for first in (2, 6, 10):
        w.layer(f"{encoder}.{first}", (64, 64, 3, 3), bias=False)
        for i in (1, 2, 3):
            block(f"{encoder}.{first + i}")
    w.layer(f"{encoder}.14", (channels, 64, 3, 3))
    w.layer(f"{decoder}.1", (64, channels, 3, 3))
    for first in (3, 8, 13):
        for i in range(3):
            block(f"{decoder}.{first + i}")
        w.layer(f"{decoder}.{first + 4}", (64, 64, 3, 3), bias=False)
    block(f"{decoder}.18")
    w.layer(f"{decoder}.19", (3, 64, 3, 3), 4.0)
    w.constant(f"{decoder}.19.bias", 0.5, 3)


# Whole files

KINDS = ("sd15", "sd2", "sd2-v", "sdxl", "flux", "flux-narrow")


def write(kind: str, file: Path, seed: int = 0) -> Path:
    """Write a checkpoint of one of `KINDS` as `file` (.ckpt) and return its path; Flux has no text encoder."""
    w = Weights(seed)
    if kind == "sd15":
        unet(w, (1, 1), (1, 0), 1, (0, 0, 1, 1), 768)
        clip(w, "cond_stage_model.transformer.text_model")
        small_autoencoder(w)
    elif kind == "sd2":
        unet(w, (1, 1), (1, 0), 1, (0, 0, 1, 1), 1024, linear=True)
        open_clip(w, "cond_stage_model.model", 24, 1024)
        small_autoencoder(w)
    elif kind == "sd2-v":
        # ComfyUI tells v-prediction by how uneven this bias of the twelfth output block is.
        unet(w, (3, 3, 3), (1,) + 8 * (0,), 1, 11 * (0,) + (1,), 1024, linear=True)
        w.draw("model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias", (UNET_WIDTH,), 0.25)
        open_clip(w, "cond_stage_model.model", 24, 1024)
        small_autoencoder(w)
    elif kind == "sdxl":
        # The depths of Segmind's Vega, the smallest that counts as SDXL.
        unet(w, (2, 2, 2), (0, 0, 1, 1, 2, 2), 2, (2, 2, 2, 1, 1, 1, 0, 0, 0), 2048, linear=True, labels=2816)
        clip(w, "conditioner.embedders.0.transformer.text_model")
        open_clip(w, "conditioner.embedders.1.model", 32, 1280)
        small_autoencoder(w, scale=0.13025)
    elif kind in ("flux", "flux-narrow"):
        # narrower than any real one: only the probe's loader takes it in every version
        flux(w) if kind == "flux" else flux(w, width=256, blocks=2)
        small_autoencoder(w, "vae", channels=16)
    else:
        raise ValueError(kind)
    torch.save({"state_dict": w.tensors}, file)
    return file
