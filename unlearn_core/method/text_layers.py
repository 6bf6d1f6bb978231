"""Which layers of a denoiser a delta changes, and which of them read text alone."""

from __future__ import annotations

LAYERS = {
    "kv": ("attn2.to_k", "attn2.to_v", "txt_attn.qkv", "attn.add_k_proj", "attn.add_v_proj", "context_block.attn.qkv"),
    "cross": ("attn2.", "txt_attn.", "attn.add_", "context_block.attn."),
    "attention": ("attn1.", "attn2.", "txt_attn.", "img_attn.", "attn.add_", "context_block.attn."),
}
"""Parts of paths: UNets' attention to text is attn2, that of models with a stream for text txt_attn (Flux), add_
(Qwen-Image) or context_block (SD3)."""


def is_target(path: str, layers: str) -> bool:
    """Whether a layer's path belongs to the kind of layers that the settings name."""
    return any(f".{part}" in f".{path}" for part in LAYERS[layers])


def reads_text(path: str) -> bool:
    """Whether a layer reads text tokens as they are; a stream for text (Flux) has mixed them with the picture."""
    return path.endswith(("attn2.to_k", "attn2.to_v"))
