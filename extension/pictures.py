"""Tensors as pictures for pages and files."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ..unlearn_core.picture_file import save_image

CARD_SIDE = 512
"""Height of a LoRA's card picture in pixels."""
SMALL_SIDE = 256
"""Height of it in the stack."""
MOST_SIDE = 4096
"""Of a picture that is made small."""
QUALITY = 90


def as_image(picture: Tensor) -> Image.Image:
    """`[3, H, W]` in 0..1 as a PIL image; what is no number is black."""
    return Image.fromarray(
        (picture.nan_to_num(0.0).clamp(0, 1) * 255).round().byte().movedim(0, -1).contiguous().cpu().numpy()
    )


def data_url(picture: Tensor) -> str:
    """`[3, H, W]` in 0..1 as an address that carries the picture itself, so that no file has to be served."""
    return address(as_image(picture))


def address(image: Image.Image) -> str:
    """A picture as an address."""
    data = io.BytesIO()
    image.save(data, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()


def data_urls(pictures: Tensor | None) -> tuple[str, ...]:
    """One address for each of `[n, 3, H, W]`."""
    return () if pictures is None else tuple(data_url(p) for p in pictures)


def small_png(data: bytes) -> str:
    """The address of a small copy of a PNG, or "" for anything else: the file may come from anyone."""
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if max(image.size) > MOST_SIDE:
                return ""
            small = image.convert("RGB")
            small.thumbnail((SMALL_SIDE, SMALL_SIDE))
            return address(small)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return ""


def save_card(file: Path, before: Tensor, after: Tensor | None) -> None:
    """The picture that web UIs show for a LoRA: one prompt `[3, H, W]` before, and after below it where known."""
    whole = as_image(before if after is None else torch.cat([before, after], dim=1))
    scale = CARD_SIDE / whole.height
    save_image(file, whole.resize((round(whole.width * scale), CARD_SIDE), Image.LANCZOS))
