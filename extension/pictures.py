"""Tensors as pictures for pages and files."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ..unlearn_core.delta.atomic import write_whole

CARD_SIDE = 512
"""Height of a LoRA's card picture in pixels."""
QUALITY = 90


def as_image(picture: Tensor) -> Image.Image:
    """`[3, H, W]` in 0..1 as a PIL image; what is no number is black."""
    return Image.fromarray(
        (picture.nan_to_num(0.0).clamp(0, 1) * 255).round().byte().movedim(0, -1).contiguous().cpu().numpy()
    )


def data_url(picture: Tensor) -> str:
    """`[3, H, W]` in 0..1 as an address that carries the picture itself, so that no file has to be served."""
    data = io.BytesIO()
    as_image(picture).save(data, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()


def data_urls(pictures: Tensor | None) -> tuple[str, ...]:
    """One address for each of `[n, 3, H, W]`."""
    return () if pictures is None else tuple(data_url(p) for p in pictures)


def save_card(file: Path, before: Tensor, after: Tensor | None) -> None:
    """The picture that web UIs show for a LoRA: one prompt `[3, H, W]` before, and after below it where known."""
    whole = as_image(before if after is None else torch.cat([before, after], dim=1))
    scale = CARD_SIDE / whole.height
    data = io.BytesIO()
    whole.resize((round(whole.width * scale), CARD_SIDE), Image.LANCZOS).save(data, "PNG")
    write_whole(file, data.getvalue())
