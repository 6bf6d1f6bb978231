"""The pictures that ComfyUI shows beside the templates: what each of them makes, drawn with the bundled deltas.

usage: python -m tests.comfy.template_pictures
"""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

from tests.comfy.templates import FOLDER
from unlearn_core import Stack, load
from unlearn_core.demo.recognition import CHECKPOINT
from unlearn_core.preview import grid, pictures
from unlearn_core.sampling import Sampler
from unlearn_core.standalone.model import StandaloneModel

SIDE = 400
CAPTIONS = ("a flat banana", "a glossy cat", "a cat in ink style", "a blob banana")


def main() -> None:
    """Draw and write all of them."""
    host = StandaloneModel(CHECKPOINT)
    deltas = {name: load(CHECKPOINT.with_name("deltas") / f"forget_{name}.safetensors") for name in ("banana", "cat")}
    stacks = {name: Stack().with_delta(delta) for name, delta in deltas.items()}
    both = stacks["banana"].with_delta(deltas["cat"])
    base, no_banana, no_cat, neither = (
        pictures(Sampler(host), s, CAPTIONS, 3) for s in (Stack(), stacks["banana"], stacks["cat"], both)
    )
    made = {
        "Draw with the demo model": base.split(2),
        "Forget one concept": pairs(base, no_banana, 0, 3),
        "Forget": pairs(base, no_banana, 3, 0),
        "Before and after": pairs(base, no_cat, 1, 2),
        "Forget three concepts": [torch.stack([s[i] for s in (base, no_banana, neither)]) for i in (0, 1, 2)],
        "Stack saved deltas": [torch.stack([s[i] for s in (base, neither)]) for i in (0, 1)],
    }
    for name, rows in made.items():
        image = Image.fromarray((grid(rows) * 255).round().byte().movedim(0, -1).contiguous().numpy())
        image.resize((SIDE, SIDE), Image.Resampling.LANCZOS).save(FOLDER / f"{name}.jpg", quality=85)


def pairs(before: Tensor, after: Tensor, *columns: int) -> list[Tensor]:
    """Rows of (before, after) of some of the captions."""
    return [torch.stack([before[i], after[i]]) for i in columns]


if __name__ == "__main__":
    main()
