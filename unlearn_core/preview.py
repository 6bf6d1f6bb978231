"""Pictures of prompts under any stack, and grids of them, as tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

from .delta.atomic import write_whole
from .delta.stack import Stack
from .host import HostModel
from .sampling import sample


def pictures(
    host: HostModel,
    stack: Stack,
    prompts: Sequence[str],
    seed: int = 0,
    steps: int = 20,
    guidance: float = 3.0,
    tick: Callable[[], None] = lambda: None,
) -> Tensor:
    """One picture a prompt with the stack applied, `[prompts, 3, H, W]` in 0..1; picture i has noise i of `seed`."""
    with host.session(stack):
        latents = sample(host, host.encode(prompts), seed, steps, guidance, host.encode([""]), tick=tick)
        return host.decode(latents)


def grid(rows: Sequence[Tensor], gap: int = 4) -> Tensor:
    """Rows of pictures, each `[n, 3, H, W]`, as one picture `[3, H', W']` on white."""
    lines = [torch.cat(list(F.pad(row, (0, gap, 0, gap), value=1.0)), dim=2) for row in rows]
    width = max(line.shape[2] for line in lines)
    return torch.cat([F.pad(line, (0, width - line.shape[2]), value=1.0) for line in lines], dim=1)


def save_pictures(file: Path, prompts: Iterable[str], before: Tensor, after: Tensor | None) -> None:
    """A labelled PNG: one column a prompt, first row before, second row after."""
    rows = [before] if after is None else [before, after]
    size = before.shape[-1]
    scale = max(1, round(160 / size))
    picture = grid(rows).repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    image = Image.fromarray((picture * 255).round().byte().permute(1, 2, 0).numpy())
    left, top = 52, 40
    page = Image.new("RGB", (left + image.width, top + image.height), "white")
    page.paste(image, (left, top))
    pen = ImageDraw.Draw(page)
    for i, label in enumerate(("before", "after")[: len(rows)]):
        pen.text((6, top + (i + 0.5) * image.height / len(rows) - 6), label, fill="black")
    width = image.width / before.shape[0]
    for i, prompt in enumerate(prompts):
        pen.multiline_text(
            (left + i * width + 2, 2), "\n".join(folded(prompt, int(width / 6.3))), fill="black", spacing=1
        )
    import io

    data = io.BytesIO()
    page.save(data, "PNG")
    write_whole(file, data.getvalue())


def folded(text: str, width: int) -> list[str]:
    """Text in at most three lines of about `width` characters that the picture's plain font can show."""
    lines = [""]
    for word in text.encode("latin-1", "replace").decode("latin-1").split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return [line[:width] for line in lines[:3]]
