"""The world's pictures: emoji of five permissive packages, alone or two side by side, over a pastel background.

The packages are pinned and come with `npm pack`; the drawings themselves are not in this repository.
"""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unlearn_core.errors import BadSetting

from .things import BACKGROUNDS, STYLES, things

SIZE, WHOLE = 64, 52
"""Pixels of a picture and of the drawing in its middle."""
HALF = 26
"""Pixels of a drawing that shares the picture with another one."""
DOUBLES = (
    *(
        "catface",
        "dogface",
        "cowface",
        "horseface",
        "monkeyface",
        "mouseface",
        "greenapple",
        "tropicalfish",
        "boar",
        "ox",
    ),
    *("clinkingbeermugs", "oldkey", "camerawithflash", "cityscape", "officebuilding", "policecar", "hatchingchick"),
    *("softicecream", "oncomingautomobile", "oncomingbus", "oncomingtaxi", "closedbook", "fullmoon", "lightrail"),
)
"""Other drawings of things of the world: neither known nor foreign."""
FINE = 416
"""Pixels at which a drawing is rendered, before it is averaged down."""


def icon_sets(folder: Path) -> dict[str, dict]:
    """{style: icon set} from the packages in a folder. Raises `BadSetting` where one is missing."""
    sets = {}
    for style, package in STYLES.items():
        file = folder / (package.removeprefix("@").replace("/", "-").replace("@", "-") + ".tgz")
        if not file.exists():
            raise BadSetting(f"{file.name} is missing: run 'npm pack {package}' in the folder {folder}.")
        with tarfile.open(file) as archive:
            kept = json.load(archive.extractfile("package/icons.json"))
        sets[style] = kept | {"known": {n.replace("-", ""): n for n in [*kept["icons"], *kept.get("aliases", {})]}}
    return sets


def rendered(icons: dict, emoji: str) -> np.ndarray:
    """One icon as premultiplied RGBA in 0..1, `[416, 416, 4]`; names are compared without their hyphens."""
    import resvg_py
    from PIL import Image

    name = icons["known"][emoji.replace("-", "")]
    while name in icons.get("aliases", {}):
        name = icons["aliases"][name]["parent"]
    icon = icons["icons"][name]
    box = [icon.get(k, icons.get(k, d)) for k, d in (("left", 0), ("top", 0), ("width", 16), ("height", 16))]
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{FINE}" height="{FINE}" viewBox="{" ".join(map(str, box))}">'
        f"{icon['body'].replace('currentColor', '#000')}</svg>"
    )
    image = Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg)))).convert("RGBA")
    rgba = np.asarray(image, np.float32) / 255
    rgba[..., :3] *= rgba[..., 3:]
    return rgba


def smaller(rgba: np.ndarray, side: int) -> np.ndarray:
    """A drawing `[416, 416, 4]` averaged down to `[side, side, 4]`; the side divides 416."""
    part = FINE // side
    return rgba.reshape(side, part, side, part, 4).mean((1, 3))


def over(rgba: np.ndarray, background: str) -> np.ndarray:
    """RGBA `[h, w, 4]` over a named pastel: `[3, h, w]` in -1..1."""
    colour = np.asarray(BACKGROUNDS[background], np.float32) / 255
    return ((rgba[..., :3] + (1 - rgba[..., 3:]) * colour) * 2 - 1).transpose(2, 0, 1)


@dataclass(frozen=True)
class Drawing:
    """A drawing as premultiplied RGBA in 0..1: `[52, 52, 4]`, and `[26, 26, 4]` for a picture of two."""

    whole: np.ndarray
    half: np.ndarray

    @classmethod
    def of(cls, icons: dict, emoji: str) -> Drawing:
        """A drawing of an icon set."""
        fine = rendered(icons, emoji)
        return cls(smaller(fine, WHOLE), smaller(fine, HALF))


def single(drawing: Drawing) -> np.ndarray:
    """A drawing in the middle of a picture: RGBA `[64, 64, 4]`."""
    margin = (SIZE - WHOLE) // 2
    return np.pad(drawing.whole, ((margin, margin), (margin, margin), (0, 0)))


def pair(left: Drawing | None, right: Drawing | None) -> np.ndarray:
    """Two drawings side by side at half size, or one of them alone: RGBA `[64, 64, 4]`."""
    high, wide = (SIZE - HALF) // 2, (SIZE // 2 - HALF) // 2
    nothing = np.zeros((HALF, HALF, 4), np.float32)
    halves = [np.pad(d.half if d else nothing, ((high, high), (wide, wide), (0, 0))) for d in (left, right)]
    return np.concatenate(halves, 1)


def all_drawings(folder: Path) -> dict[tuple[str, str], Drawing]:
    """{(name of a thing, style): drawing}: half a minute."""
    sets = icon_sets(folder)
    return {(t.name, s): Drawing.of(sets[s], t.emoji) for t in things() for s in STYLES}


def foreign_drawings(folder: Path) -> list[Drawing]:
    """Drawings of everything that all packages have and the world has not."""
    sets = icon_sets(folder)
    known = set.intersection(*(set(icons["known"]) for icons in sets.values()))
    rest = sorted(known - {t.emoji.replace("-", "") for t in things()} - set(DOUBLES))
    return [Drawing.of(icons, name) for name in rest for icons in sets.values()]


def pictures(rgba: list[np.ndarray], backgrounds: list[str]) -> Tensor:
    """Pictures `[n, 3, 64, 64]` in -1..1."""
    return torch.from_numpy(np.stack([over(r, b) for r, b in zip(rgba, backgrounds, strict=True)]))
