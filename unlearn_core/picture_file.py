"""Before and after pictures as a labelled PNG."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from .delta.atomic import write_whole
from .preview import grid

LETTERS, LINES = 13, 3
"""Height of a caption's letters in pixels: smaller ones run together; and its most lines."""
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def save_pictures(file: Path, prompts: Iterable[str], before: Tensor, after: Tensor | None) -> None:
    """A labelled PNG: one column a prompt, first row before, second row after."""
    save_rows(file, prompts, {"before": before} | ({} if after is None else {"after": after}))


def save_rows(file: Path, prompts: Iterable[str], rows: Mapping[str, Tensor]) -> None:
    """A labelled PNG: one column a prompt, a row for each `{label: pictures [prompts, 3, H, W] in 0..1}`."""
    first = next(iter(rows.values()))
    scale = max(1, round(160 / first.shape[-1]))
    picture = grid(list(rows.values())).repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    image = Image.fromarray((picture * 255).round().byte().permute(1, 2, 0).numpy())
    left, top = max(56, 16 + 7 * max(map(len, rows))), LINES * LETTERS + 8
    page = Image.new("RGB", (left + image.width, top + image.height), "white")
    page.paste(image, (left, top))
    pen, font = ImageDraw.Draw(page), letters(LETTERS)
    for i, label in enumerate(rows):
        pen.text((6, top + (i + 0.5) * image.height / len(rows) - 7), label, fill="black", font=font)
    width = image.width / len(first)
    for i, prompt in enumerate(prompts):
        text = "\n".join(folded(prompt, int(width) - 4, font, LINES))
        pen.multiline_text((left + i * width + 2, 1), text, fill="black", font=font, spacing=0)
    save_image(file, page)


def letters(size: int) -> Font:
    """Pillow's own font of that height; of its one size in a Pillow that is too old to have others."""
    try:
        return ImageFont.load_default(size)
    except TypeError:
        return ImageFont.load_default()


def save_image(file: Path, image: Image.Image) -> None:
    """Write a PNG, whole or not at all, signed so that it may be replaced (see `outputs`). Raises `UnlearnError`."""
    data, signed = io.BytesIO(), PngInfo()
    signed.add_text("Software", "unlearn")
    image.save(data, "PNG", pnginfo=signed)
    write_whole(file, data.getvalue())


def folded(text: str, width: int, font: Font, lines: int) -> list[str]:
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


def shortened(line: str, width: int, font: Font) -> str:
    """The line, or its beginning and dots where it is wider than that."""
    line, whole = line[: width + 1], line  # no letter is narrower than a pixel
    if line == whole and font.getlength(line) <= width:
        return line
    while line and font.getlength(line + "...") > width:
        line = line[:-1]
    return line.rstrip() + "..."
