"""Before and after pictures as a labelled PNG."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .delta.atomic import write_whole
from .preview import grid

LETTERS = 13
"""Height of a caption's letters in pixels: smaller ones run together."""


def save_pictures(file: Path, prompts: Iterable[str], before: Tensor, after: Tensor | None) -> None:
    """A labelled PNG: one column a prompt, first row before, second row after."""
    save_rows(file, prompts, {"before": before} | ({} if after is None else {"after": after}))


def save_rows(file: Path, prompts: Iterable[str], rows: Mapping[str, Tensor]) -> None:
    """A labelled PNG: one column a prompt, a row for each `{label: pictures [prompts, 3, H, W] in 0..1}`."""
    first = next(iter(rows.values()))
    scale = max(1, round(160 / first.shape[-1]))
    picture = grid(list(rows.values())).repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    image = Image.fromarray((picture * 255).round().byte().permute(1, 2, 0).numpy())
    left, top = max(56, 16 + 7 * max(map(len, rows))), 3 * LETTERS + 8
    page = Image.new("RGB", (left + image.width, top + image.height), "white")
    page.paste(image, (left, top))
    pen, font = ImageDraw.Draw(page), letters(LETTERS)
    for i, label in enumerate(rows):
        pen.text((6, top + (i + 0.5) * image.height / len(rows) - 7), label, fill="black", font=font)
    width = image.width / len(first)
    for i, prompt in enumerate(prompts):
        text = "\n".join(folded(prompt, int(width / 6.3)))
        pen.multiline_text((left + i * width + 2, 1), text, fill="black", font=font, spacing=0)
    save_image(file, page)


def letters(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font of that height; of its one size in a Pillow that is too old to have others."""
    try:
        return ImageFont.load_default(size)
    except TypeError:
        return ImageFont.load_default()


def save_image(file: Path, image: Image.Image) -> None:
    """Write a PNG, whole or not at all. Raises `UnlearnError`."""
    data = io.BytesIO()
    image.save(data, "PNG")
    write_whole(file, data.getvalue())


def folded(text: str, width: int) -> list[str]:
    """Text in at most three lines of about `width` characters that the picture's plain font can show."""
    lines = [""]
    for word in text.encode("latin-1", "replace").decode("latin-1").split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return [line[:width] for line in lines[:3]]
