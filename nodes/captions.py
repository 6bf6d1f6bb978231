"""Pictures with their prompts written under them, in the font that Pillow brings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..unlearn_core.picture_file import letters

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


def folded(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, lines: int) -> list[str]:
    """The text in at most so many lines that are no wider than `width`; letters that the font lacks are "?"."""
    words = text.encode("latin-1", "replace").decode("latin-1").split()
    found = [""]
    for i, word in enumerate(words):
        longer = f"{found[-1]} {word}".strip()
        if not found[-1] or font.getlength(longer) <= width:
            found[-1] = longer
        elif len(found) < lines:
            found.append(word)
        else:
            found[-1] = " ".join([found[-1], *words[i:]])
            break
    return [shortened(line, width, font) for line in found]


def shortened(line: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The line, or its beginning and dots where it is wider than that."""
    if font.getlength(line) <= width:
        return line
    while line and font.getlength(line + "...") > width:
        line = line[:-1]
    return line.rstrip() + "..."
