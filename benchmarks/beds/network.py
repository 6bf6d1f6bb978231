"""The networks: Qwen-Image's transformer, small, and a text encoder whose tokens see the whole prompt."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unlearn_core.demo.recognition import CHECKPOINT

WIDTH, HEADS, DEPTH, PATCH, CHANNELS = 192, 6, 5, 2, 4
TEXT_WIDTH, TOKENS = 128, 16
SIDE = 16
"""Side of a latent."""
DENOISER, ENCODER, DEVIATION = "model.diffusion_model.", "text_encoders.t5.transformer.", "latent_deviation"
"""Names of tensors in a file: what those of the parts begin with, and by what the latents were divided."""


@dataclass(frozen=True)
class Sizes:
    """How big a transformer is: 32 numbers a head; text: width of its tokens."""

    depth: int = DEPTH
    patch: int = PATCH
    channels: int = CHANNELS
    text: int = TEXT_WIDTH


class FlowTransformer(nn.Module):
    """diffusers' Qwen-Image transformer for latents `[b, 4, 16, 16]`, with the names and sums of ComfyUI's class."""

    def __init__(self, sizes: Sizes = Sizes()) -> None:
        from diffusers import QwenImageTransformer2DModel

        super().__init__()
        self.patch = sizes.patch
        self.net = QwenImageTransformer2DModel(
            patch_size=sizes.patch,
            in_channels=sizes.channels * sizes.patch**2,
            out_channels=sizes.channels,
            num_layers=sizes.depth,
            attention_head_dim=WIDTH // HEADS,
            num_attention_heads=HEADS,
            joint_attention_dim=sizes.text,
            axes_dims_rope=(8, 12, 12),
        )

    def forward(self, x: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        """The flow's velocity. x: `[b, c, h, w]`, t: times 0..1 `[b]`, tokens: `[b, n, width of text]`."""
        (b, c, h, w), patch = x.shape, self.patch
        rows, columns = h // patch, w // patch
        cells = x.view(b, c, rows, patch, columns, patch).permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        out = self.net(
            cells,
            encoder_hidden_states=tokens,
            encoder_hidden_states_mask=torch.ones(tokens.shape[:2], dtype=torch.bool, device=x.device),
            timestep=t,
            img_shapes=[[(1, rows, columns)]] * b,
            return_dict=False,
        )[0]
        return out.view(b, rows, columns, c, patch, patch).permute(0, 3, 1, 4, 2, 5).reshape(x.shape)


def text_encoder(words: int) -> nn.Module:
    """A small T5 encoder: bidirectional, so that every token of a prompt depends on all of it."""
    from transformers import T5Config, T5EncoderModel

    sizes = {"d_model": TEXT_WIDTH, "d_ff": 2 * TEXT_WIDTH, "d_kv": 32, "num_heads": 4, "num_layers": 3}
    return T5EncoderModel(T5Config(vocab_size=words, dropout_rate=0.0, feed_forward_proj="gated-gelu", **sizes))


def own_text_encoder(weights: dict[str, Tensor]) -> nn.Module | None:
    """The text encoder that a file holds, None where it has none."""
    own = {n.removeprefix(ENCODER): t.float() for n, t in weights.items() if n.startswith(ENCODER)}
    if not own:
        return None
    encoder = text_encoder(len(own["shared.weight"]))
    encoder.load_state_dict(own | {"encoder.embed_tokens.weight": own["shared.weight"]})
    return encoder.eval().requires_grad_(False)


def ids_of(texts: list[str]) -> Tensor:
    """Token ids `[n, 16]` by the demo's own tokenizer."""
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(CHECKPOINT.parent / "tokenizer", local_files_only=True)
    return torch.tensor(tokenizer(texts, padding="max_length", truncation=True, max_length=TOKENS).input_ids)
