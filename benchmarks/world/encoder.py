"""The text encoder: causal as CLIP's, with a vocabulary of ten thousand word pieces that mean something.

`distil.py` has taught it; it stays as it is while the image model learns, as in Stable Diffusion.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

FOLDER = Path(__file__).parent
FILE, PIECES = FOLDER / "encoder.safetensors", FOLDER / "pieces.txt"
WIDTH, LAYERS, HEADS, TOKENS = 256, 2, 4, 20
START, END, UNKNOWN = 0, 1, 2
"""Numbers of the first three pieces. What is left of the row after a prompt's end is filled with its end, as CLIP's."""


@cache
def pieces() -> dict[str, int]:
    """{piece: number}; `##` stands before pieces that go on with a word."""
    return {piece: i for i, piece in enumerate(PIECES.read_text(encoding="utf-8").split("\n"))}


def split(text: str) -> list[int]:
    """Numbers of a text's pieces: of each word the longest known beginning, and so on with the rest (WordPiece)."""
    known, found = pieces(), []
    for word in re.findall(r"[a-z0-9]+|[^\sa-z0-9]", text.lower()):
        at = 0
        while at < len(word):
            mark = "##" if at else ""
            end = next((e for e in range(len(word), at, -1) if mark + word[at:e] in known), 0)
            found.append(known[mark + word[at:end]] if end else UNKNOWN)
            at = end or at + 1
    return found


def ids_of(texts: Sequence[str]) -> Tensor:
    """Token ids `[n, 20]`; what is longer is cut."""
    rows = [[START, *split(text)[: TOKENS - 2], END] for text in texts]
    return torch.tensor([row + [END] * (TOKENS - len(row)) for row in rows])


def network() -> nn.Module:
    """The encoder with random weights: CLIP's layers, two of them."""
    from transformers import CLIPTextConfig, CLIPTextModel

    net = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(pieces()),
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            projection_dim=WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            max_position_embeddings=TOKENS,
            hidden_act="quick_gelu",
            bos_token_id=START,
            eos_token_id=END,
            pad_token_id=END,
        )
    )
    for name, parameter in net.named_parameters():
        if name.endswith("final_layer_norm.bias"):  # never zero, as in trained CLIP: nothing may divide by a mean of 0
            nn.init.constant_(parameter, 0.1)
    return net


class TextEncoder:
    """The taught encoder of a file."""

    def __init__(self, file: Path = FILE):
        self.net = network()
        own = {n.removeprefix("text_model."): t.float() for n, t in load_file(file).items()}
        part = getattr(self.net, "text_model", self.net)  # transformers 5 has no layer between
        part.load_state_dict(own, strict=False)
        self.net.eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Contextual tokens `[n, 20, 256]`."""
        return self.net(ids_of(texts)).last_hidden_state
