"""The demo model's networks and the small CLIP tokenizer, as diffusers / transformers objects.

Widths are multiples of 32 because the original LDM code fixes 32 normalisation groups, and the
autoencoder has attention in its middle for the same reason.
"""

from itertools import pairwise
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from pictures import all_words
from unlearn_core.standalone import clip_tokenizer

TEXT_WIDTH = 128
POSITIONS = 77


def make_autoencoder() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(32, 32, 64, 64),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=32,
        sample_size=128,
    )


def make_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(64, 128),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        attention_head_dim=4,
        cross_attention_dim=TEXT_WIDTH,
        norm_num_groups=32,
    )


def make_text_encoder(vocabulary: int) -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=TEXT_WIDTH,
        intermediate_size=4 * TEXT_WIDTH,
        projection_dim=TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=POSITIONS,
        hidden_act="quick_gelu",
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
    )
    encoder = CLIPTextModel(config)
    # A last bias of exactly zero makes each token's mean zero, and web UIs divide by that mean.
    for name, parameter in encoder.named_parameters():
        if name.endswith("final_layer_norm.bias"):
            torch.nn.init.constant_(parameter, 0.1)
    return encoder


def write_tokenizer(folder: Path) -> int:
    """CLIP's own tokenizer cut down to the world's words; returns its number of entries.

    Kept are all byte symbols (so any text can be encoded), the merges that build the world's words
    and the two end tokens.
    """
    merges = clip_tokenizer.read_merges()
    rank = {pair: i for i, pair in enumerate(merges)}
    needed = set()
    for word in sorted(all_words()):
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            best = min(pairwise(parts), key=lambda pair: rank.get(pair, len(rank)))
            if best not in rank:
                break
            needed.add(rank[best])
            at = next(i for i in range(len(parts)) if tuple(parts[i : i + 2]) == best)
            parts[at : at + 2] = ["".join(best)]
    return clip_tokenizer.write_tokenizer(folder, [merges[i] for i in sorted(needed)])


def load_tokenizer(folder: Path) -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(folder)
