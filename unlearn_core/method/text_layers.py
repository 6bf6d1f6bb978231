"""Which layers of a denoiser a delta changes, and which of them read text alone."""

from __future__ import annotations

LAYERS = {
    "kv": ("attn2.to_k", "attn2.to_v", "txt_attn.qkv"),
    "cross": ("attn2.", "txt_attn."),
    "attention": ("attn1.", "attn2.", "txt_attn.", "img_attn."),
}
"""Parts of paths: UNets' attention to text is attn2, that of models with a stream for text (Flux) txt_attn."""


def is_target(path: str, layers: str) -> bool:
    """Whether a layer's path belongs to the kind of layers that the settings name."""
    return any(f".{part}" in f".{path}" for part in LAYERS[layers])


def reads_text(path: str) -> bool:
    """Whether a layer reads text tokens as they are; a stream for text (Flux) has mixed them with the picture."""
    return path.endswith(("attn2.to_k", "attn2.to_v"))
