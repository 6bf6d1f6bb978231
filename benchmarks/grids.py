"""The picture grid: one row after each request, one column a fixed caption, the same noise everywhere."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from unlearn_core.delta.atomic import write_whole
from unlearn_core.demo.recognition import Question
from unlearn_core.picture_file import LINES, folded
from unlearn_core.preview import drawn as drawn_now
from unlearn_core.preview import grid
from unlearn_core.sampling import Sampler
from unlearn_core.words.prompts import fill

from .models import OpenModel, guidance_of
from .sequences import Watched

SIZE, PRESERVED, STEPS, NOISE = 72, 8, 12, 77
LEFT, TOP = 100, 44


def captions(w: Watched, targets: Sequence[Sequence[Question]]) -> tuple[str, ...]:
    """One caption of each request, then some preserved ones, held-out and near ones first."""
    ranked = sorted(w.objects, key=lambda o: (o not in w.held_out, o not in w.near))[:PRESERVED]
    preserved = [fill("{an o} in {s} style", o, w.styles[i % len(w.styles)]) for i, o in enumerate(ranked)]
    return (*(group[0].caption for group in targets), *preserved)


def strip(host: OpenModel, columns: Sequence[str], file: Path) -> None:
    """Draw one row with the host as it is now and write it."""
    drawn = drawn_now(Sampler(host, STEPS, guidance_of(host)), columns, NOISE)
    picture = grid([drawn], 0)
    image = Image.fromarray((picture * 255).round().byte().permute(1, 2, 0).numpy())
    save_png(image.resize((SIZE * len(drawn), SIZE), Image.Resampling.LANCZOS), file)


def assemble(columns: Sequence[str], base: Path, strips: Sequence[tuple[str, Path]], file: Path) -> None:
    """All rows of one method under their captions. strips: (label, picture) after each request."""
    rows = [("base", base), *strips]
    with Image.open(base) as first:
        width = first.width
    page = Image.new("RGB", (LEFT + width, TOP + SIZE * len(rows)), "white")
    pen = ImageDraw.Draw(page)
    for i, caption in enumerate(columns):
        text = "\n".join(folded(caption, SIZE - 4, pen.getfont(), LINES))
        pen.multiline_text((LEFT + i * SIZE + 2, 2), text, fill="black", spacing=1)
    for i, (label, picture) in enumerate(rows):
        lines = folded(label.replace(":", ": ").replace("+", " +"), LEFT - 8, pen.getfont(), LINES)
        at = (4, TOP + i * SIZE + (SIZE - 12 * len(lines)) // 2)
        pen.multiline_text(at, "\n".join(lines), fill="black", spacing=1)
        with Image.open(picture) as row:
            page.paste(row.convert("RGB"), (LEFT, TOP + i * SIZE))
    save_png(page, file)


def save_png(image: Image.Image, file: Path) -> None:
    """Whole or not at all."""
    data = io.BytesIO()
    image.save(data, "PNG")
    write_whole(file, data.getvalue())
