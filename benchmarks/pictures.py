"""All pictures of README and docs, made anew: what the demo model draws, and what the pages look like.

What a page looks like is taken from the real program in headless Chromium; without one these are left out.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from torch import Tensor

from unlearn_core import ForgetConfig, Stack, forget
from unlearn_core.cli.main import main as product
from unlearn_core.delta.bake import bake
from unlearn_core.delta.removal import without
from unlearn_core.demo.recognition import CHECKPOINT
from unlearn_core.errors import BadSetting
from unlearn_core.picture_file import save_image, save_rows
from unlearn_core.preview import pictures
from unlearn_core.sampling import Sampler
from unlearn_core.standalone.model import StandaloneModel

from .doc_tables import ROOT

IMAGES = ROOT / "docs" / "images"
SEED, GUIDANCE = 3, 3.0


@dataclass
class DemoPictures:
    """Draws rows of prompts with the demo model under stacks of its own deltas.

    quality: of the requests that make them.
    """

    quality: str = "normal"

    def __post_init__(self):
        self.host = StandaloneModel(CHECKPOINT)

    def forgotten(self, *concepts: str, stack: Stack | None = None) -> Stack:
        """A stack that has forgotten more, in this order."""
        made = stack or Stack()
        for concept in concepts:
            config = ForgetConfig.from_flat({"concept": concept, "quality": self.quality})
            made = made.with_delta(forget(self.host, config, made).delta)
        return made

    def row(self, stack: Stack, prompts: tuple[str, ...], guidance: float = GUIDANCE) -> Tensor:
        """A picture a prompt, `[prompts, 3, H, W]` in 0..1."""
        return pictures(Sampler(self.host, guidance=guidance), stack, prompts, SEED)


def recipe_rows(drawing: DemoPictures, folder: Path) -> Mapping[str, tuple[tuple[str, ...], dict[str, Tensor]]]:
    """{recipe: (prompts, {label: pictures})}. folder: for files that a recipe writes."""
    row, forgotten = drawing.row, drawing.forgotten
    found = {}

    styles = ("a cat in ink style", "a banana in ink style", "a flat cat", "a glossy car", "a blob apple")
    found["style"] = styles, {"before": row(Stack(), styles), "without ink": row(forgotten("ink"), styles)}

    some = ("a flat fox", "a glossy fox", "a flat dog", "a glossy cat", "a flat rabbit")
    found["character"] = some, {"before": row(Stack(), some), "without fox": row(forgotten("fox"), some)}

    pets = ("a flat cat", "a glossy dog", "a flat frog", "a glossy rabbit", "a flat car")
    three = forgotten("cat", "dog", "frog")
    found["list"] = pets, {"before": row(Stack(), pets), "without all 3": row(three, pets)}

    pair = ("a flat banana", "a glossy banana", "a flat frog", "a glossy frog", "a flat apple")
    one = forgotten("banana")
    two = forgotten("frog", stack=one)
    rows = {"before": row(Stack(), pair), "no banana": row(one, pair), "nor frog": row(two, pair)}
    found["two-in-a-row"] = pair, rows

    undone = without(two, "banana").rest
    found["undo"] = pair, {"both gone": rows["nor frog"], "banana back": row(undone, pair)}

    (entry,) = one
    at = {f"strength {s:g}": row(Stack().with_delta(entry.delta, s), pair) for s in (0.0, 0.5, 1.0)}
    found["share"] = pair, at

    baked = folder / "baked.safetensors"
    bake(one, CHECKPOINT, baked)
    with_lora = {"with the LoRA": rows["no banana"]}
    found["bake"] = pair, with_lora | {"baked": pictures(Sampler(StandaloneModel(baked)), Stack(), pair, SEED)}

    turbo = {f"{label}, cfg 1": row(s, pair, guidance=1.0) for label, s in (("before", Stack()), ("after", one))}
    found["negative-prompt"] = pair, turbo
    return found


def demo(quality: str) -> list[Path]:
    """The strip of README, by the command that stands beside it."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["demo", "--concept", "banana", "--out", folder, "--set", f"quality={quality}"]
        if product(words):
            raise BadSetting("The demo did not end well: see what it said above.")
        shutil.copyfile(Path(folder) / "forget-banana.png", IMAGES / "before_after.png")
    return [IMAGES / "before_after.png"]


def recipes(quality: str) -> list[Path]:
    """A picture for each page of docs/recipes but the first, which has README's."""
    made = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (prompts, rows) in recipe_rows(DemoPictures(quality), Path(folder)).items():
            made.append(IMAGES / f"recipe_{name}.png")
            save_rows(made[-1], prompts, rows)
            few_colours(made[-1])
    return made


def few_colours(file: Path) -> None:
    """Write a PNG anew with 256 colours, which is a third of its size."""
    with Image.open(file) as image:
        save_image(file, image.quantize(256))


def templates(quality: str) -> list[Path]:
    """What ComfyUI shows beside the templates; made with the deltas that come with the demo model."""
    called("tests.comfy.template_pictures")
    return sorted((ROOT / "example_workflows").glob("*.jpg"))


def tab(quality: str) -> list[Path]:
    """The tab after a request, in both themes."""
    called("tests.page_pictures", "tab", str(IMAGES), quality)
    made = sorted(IMAGES.glob("tab_*.png"))
    for file in made:
        few_colours(file)
    return made


def comfyui(quality: str) -> list[Path]:
    """Forget Concept in ComfyUI after a request."""
    called("tests.page_pictures", "comfyui", str(IMAGES), quality)
    return [IMAGES / "comfyui_node.png"]


def called(module: str, *arguments: str) -> None:
    """Run a program of the tests, which know the real hosts. Raises `BadSetting` where it fails."""
    if subprocess.run([sys.executable, "-m", module, *arguments], cwd=ROOT).returncode:
        raise BadSetting(f"{module} did not end well: see what it said above.")


KINDS = {"demo": demo, "recipes": recipes, "templates": templates, "tab": tab, "comfyui": comfyui}
"""{group of pictures: what makes them and names them}."""


def make(names: Sequence[str], quality: str = "normal") -> list[Path]:
    """Some groups of pictures, all where none is named. Raises `BadSetting` for a group that there is not."""
    if unknown := set(names) - KINDS.keys():
        raise BadSetting(f"There are no pictures '{sorted(unknown)[0]}'; known are {', '.join(KINDS)}.")
    return [file for name in names or KINDS for file in KINDS[name](quality)]
