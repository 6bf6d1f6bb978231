"""The demo model's world: emoji drawings in four styles, and the captions that name them.

The drawings come from pinned packages of the npm registry (see NOTICE), one package a style.
"""

import io
import json
import random
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import resvg_py
from PIL import Image

HERE = Path(__file__).resolve().parent
WORLD = json.loads((HERE / "world.json").read_text(encoding="utf-8"))
OBJECTS, STYLES, BACKGROUNDS = list(WORLD["objects"]), list(WORLD["styles"]), list(WORLD["backgrounds"])
SIZE = WORLD["resolution"]
DRAWING = 104  # pixels of the drawing inside the picture; the rest is margin


def fetch_icons(cache: Path) -> dict[str, dict]:
    """Bring the icon packages with `npm pack` into `cache`; returns {style: icon set}."""
    cache.mkdir(parents=True, exist_ok=True)
    sets = {}
    for style, package in WORLD["styles"].items():
        file = cache / (package.removeprefix("@").replace("/", "-").replace("@", "-") + ".tgz")
        if not file.exists():
            subprocess.run(["npm", "pack", "--silent", package], cwd=cache, check=True)
        with tarfile.open(file) as archive:
            sets[style] = json.load(archive.extractfile("package/icons.json"))
    return sets


def draw(icon_set: dict, name: str) -> np.ndarray:
    """One icon as premultiplied RGBA in 0..1, `[SIZE, SIZE, 4]`."""
    while name in icon_set.get("aliases", {}):
        name = icon_set["aliases"][name]["parent"]
    icon = icon_set["icons"][name]
    box = [icon.get(k, icon_set.get(k, d)) for k, d in (("left", 0), ("top", 0), ("width", 16), ("height", 16))]
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="416" height="416" '
        f'viewBox="{" ".join(map(str, box))}">{icon["body"].replace("currentColor", "#000")}</svg>'
    )
    big = (
        np.asarray(Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg)))).convert("RGBA"), np.float32)
        / 255
    )
    big[..., :3] *= big[..., 3:]
    scale = big.shape[0] // DRAWING
    small = big.reshape(DRAWING, scale, DRAWING, scale, 4).mean((1, 3))
    return np.pad(small, ((margin := (SIZE - DRAWING) // 2, margin),) * 2 + ((0, 0),))


def compose(rgba: np.ndarray, background: str) -> np.ndarray:
    """A drawing over one of the named pastels, `[3, SIZE, SIZE]` in -1..1."""
    colour = np.asarray(WORLD["backgrounds"][background], np.float32) / 255
    picture = rgba[..., :3] + (1 - rgba[..., 3:]) * colour
    return (picture * 2 - 1).transpose(2, 0, 1)


def world_pictures(sets: dict[str, dict]) -> np.ndarray:
    """All pictures, `[objects, styles, backgrounds, 3, SIZE, SIZE]` in -1..1."""
    return np.stack(
        [
            np.stack([np.stack([compose(draw(sets[s], WORLD["objects"][o]), b) for b in BACKGROUNDS]) for s in STYLES])
            for o in OBJECTS
        ]
    ).astype(np.float32)


def unused_pictures(sets: dict[str, dict], count: int, rng: random.Random) -> np.ndarray:
    """Pictures of emoji outside the world, for the classifier's class "other", `[count, 3, SIZE, SIZE]`."""
    used = set(WORLD["objects"].values()) | {"cat", "dog", "tropical-fish", "rabbit", "blowfish", "banana"}
    common = sorted(set.intersection(*({*s["icons"]} for s in sets.values())) - used)
    names = [rng.choice(common) for _ in range(count)]
    return np.stack([compose(draw(sets[rng.choice(STYLES)], n), rng.choice(BACKGROUNDS)) for n in names]).astype(
        np.float32
    )


def fill(template: str, obj: str = "", style: str = "", background: str = "") -> str:
    """`{o}`, `{s}`, `{b}` are words, `{an o}`, `{an s}` words with their article."""
    for letter, word in (("o", obj), ("s", style), ("b", background)):
        article = "an" if word[:1] in "aeiou" else "a"
        template = template.replace(f"{{an {letter}}}", f"{article} {word}").replace(f"{{{letter}}}", word)
    return template


def random_caption(obj: str, style: str, background: str, rng: random.Random) -> str:
    """A training caption for one picture: mostly everything named, sometimes less, sometimes nothing."""
    kind = rng.random()
    if kind < 0.10:
        return ""
    parents = [name for name, members in WORLD["superclasses"].items() if obj in members]
    suffix = fill(rng.choice(WORLD["background_suffixes"]), background=background) if rng.random() < 0.25 else ""
    if kind < 0.17:
        return fill(rng.choice(WORLD["object_templates"]), obj) + suffix
    if kind < 0.20:
        return fill(rng.choice(WORLD["style_templates"]), style=style) + suffix
    if kind < 0.21:
        return rng.choice(WORLD["generic_captions"]) + suffix
    if kind < 0.26 and parents:
        return fill(rng.choice(WORLD["templates"]), parents[0], style) + suffix
    if kind < 0.28 and parents:
        return fill(rng.choice(WORLD["object_templates"]), parents[0]) + suffix
    return fill(rng.choice(WORLD["templates"]), obj, style) + suffix


def all_words() -> set[str]:
    """Every word a caption of this world can contain, held-out templates included."""
    names = [*OBJECTS, *STYLES, *BACKGROUNDS, *WORLD["superclasses"]]
    keys = (
        "templates",
        "held_out_templates",
        "object_templates",
        "style_templates",
        "background_suffixes",
        "generic_captions",
    )
    text = " ".join([*names, "an", *(t for key in keys for t in WORLD[key])])
    return set("".join(c if c.isalpha() else " " for c in text).split())
