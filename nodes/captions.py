"""Pictures with their prompts written under them, in the font that Pillow brings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ..unlearn_core.picture_file import folded, letters

LINES = 2
"""Lines of a caption; what is longer ends in dots."""
SMALLEST, PART = 10, 18
"""Height of the letters in pixels: this part of the picture's width, but never smaller than that."""


def captioned(pictures: Tensor, texts: Sequence[str]) -> Tensor:
    """Pictures `[n, 3, H, W]` in 0..1 with a white strip below each, in which its text stands."""
    return torch.stack([torch.cat([p, strip(t, p.shape[2])], 1) for p, t in zip(pictures.cpu(), texts, strict=True)])


def message(text: str, side: int = 256) -> Tensor:
    """A picture `[1, 3, H, W]` that holds nothing but a text, for where there is no picture to show."""
    return strip(text, side, lines=12)[None]


def strip(text: str, width: int, lines: int = LINES) -> Tensor:
    """The text, black on white, as `[3, h, width]`; h depends on the width alone."""
    size = max(SMALLEST, width // PART)
    font = letters(size)
    page = Image.new("RGB", (width, round(lines * size * 1.3) + 4), "white")
    written = "\n".join(folded(text, width - 4, font, lines))
    ImageDraw.Draw(page).multiline_text((2, 1), written, fill="black", font=font, spacing=size // 5)
    return torch.from_numpy(np.array(page)).movedim(-1, 0).float() / 255
