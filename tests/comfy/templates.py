"""The workflows of `example_workflows/`, made from today's settings so that their values are never out of date.

usage: python -m tests.comfy.templates   writes the files anew; a test compares them with what this would write.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unlearn_core import settings
from unlearn_core.config import REQUEST

FOLDER = Path(__file__).resolve().parents[2] / "example_workflows"
SIZES = {
    "UnlearnLoadDemoModel": [320, 100],
    "UnlearnLoadDelta": [345, 100],
    "UnlearnForgetConcept": [360, 440],
    "UnlearnSaveDelta": [340, 160],
    "UnlearnBeforeAfter": [380, 460],
    "UnlearnStack": [280, 480],
    "PreviewImage": [420, 320],
    "SaveImage": [340, 360],
    "KSampler": [280, 270],
    "CLIPTextEncode": [280, 120],
    "Note": [320, 160],
}


def request_values() -> list[tuple[str, Any]]:
    """(widget, default) of Forget Concept in the order of its widgets."""
    asked = [f for f in settings() if f.metadata["group"] == REQUEST]
    *wish, seed, force = [(f.name, "" if isinstance(f.default, tuple) else f.default) for f in asked]
    return [*wish, ("strength", 1.0), seed, ("resolution", 0), force]


def kinds() -> dict[str, tuple[list, list, list]]:
    """{node: (inputs for links, (widget, value), outputs)}, each in the order in which the page counts them."""
    model, clip, vae, image = ("model", "MODEL"), ("clip", "CLIP"), ("vae", "VAE"), ("images", "IMAGE")
    stack, latent = ("stack", "UNLEARN_STACK"), ("LATENT", "LATENT")
    conditioning = [(n, "CONDITIONING") for n in ("positive", "negative")]
    settings_link = ("settings", "UNLEARN_SETTINGS")
    sampler = [("seed", 0), ("control", "fixed"), ("steps", 20), ("cfg", 3.0), ("sampler_name", "euler")]
    drawn = [("prompts", ""), ("seed", 0), ("steps", 20), ("guidance", 5.0), ("resolution", 0)]
    slots = [x for i in range(1, 9) for x in ((f"strength_{i}", 1.0), (f"on_{i}", True))]
    saved = [("name", ""), ("save", "newest delta")]
    reported = [("before and after", "IMAGE"), ("report", "STRING")]
    return {
        "UnlearnLoadDemoModel": ([], [("kind", "UNet, as Stable Diffusion")], [model, clip, vae]),
        "UnlearnForgetConcept": ([model, clip, vae, settings_link], request_values(), [model, stack, *reported]),
        "UnlearnBeforeAfter": ([("before", "MODEL"), ("after", "MODEL"), clip, vae], drawn, [("grid", "IMAGE")]),
        "UnlearnSaveDelta": ([stack, ("picture", "IMAGE")], saved, [("file", "STRING")]),
        "UnlearnLoadDelta": ([], [("delta", ""), ("strength", 1.0)], [stack]),
        "UnlearnStack": ([(f"stack_{i}", stack[1]) for i in range(1, 9)], slots, [stack, ("lineage", "STRING")]),
        "UnlearnApply": ([model, clip, stack], [("any_base", False)], [model, stack]),
        "CLIPTextEncode": ([clip], [("text", "")], [("CONDITIONING", "CONDITIONING")]),
        "EmptyLatentImage": ([], [("width", 128), ("height", 128), ("batch_size", 4)], [latent]),
        "KSampler": (
            [model, *conditioning, ("latent_image", "LATENT")],
            [*sampler, ("scheduler", "normal"), ("denoise", 1.0)],
            [latent],
        ),
        "VAEDecode": ([("samples", "LATENT"), vae], [], [("IMAGE", "IMAGE")]),
        "SaveImage": ([image], [("filename_prefix", "unlearn")], []),
        "PreviewImage": ([image], [], []),
        "Note": ([], [("text", "")], []),
    }


class Page:
    """A workflow as the page saves it."""

    def __init__(self):
        self.nodes: list[dict] = []
        self.links: list[list] = []
        self._kinds = kinds()

    def add(self, kind: str, x: int, y: int, links: dict[str, tuple[int, int]] | None = None, **values: Any) -> int:
        """A node at a place; its number.

        links: {input: (node, output)}. values: widgets other than their defaults, and `title` for its title.
        """
        title = {"title": values.pop("title")} if "title" in values else {}
        links = links or {}
        inputs, widgets, outputs = self._kinds[kind]
        unknown = {*values} - {n for n, _ in widgets} | {*links} - {n for n, _ in inputs}
        assert not unknown, f"{kind} has no {unknown}"
        number = len(self.nodes) + 1
        node = {
            "id": number,
            "type": kind,
            **title,
            "pos": [x, y],
            "size": SIZES.get(kind, [260, 100]),
            "flags": {},
            "order": number - 1,
            "mode": 0,
            "inputs": [{"name": n, "type": t, "link": None} for n, t in inputs],
            "outputs": [{"name": n, "type": t, "links": [], "slot_index": i} for i, (n, t) in enumerate(outputs)],
            "properties": {} if kind == "Note" else {"Node name for S&R": kind},
            "widgets_values": [values.get(n, v) for n, v in widgets],
        }
        for i, part in enumerate(node["inputs"]):
            if part["name"] in links:
                source, slot = links[part["name"]]
                part["link"] = len(self.links) + 1
                self.links.append([part["link"], source, slot, number, i, part["type"]])
                self.nodes[source - 1]["outputs"][slot]["links"].append(part["link"])
        self.nodes.append(node)
        return number

    def draw(self, model: tuple[int, int], loader: int, places: Sequence[tuple[int, int]], text: str) -> int:
        """Stock nodes that draw four pictures with a MODEL and save them.

        places: of what is asked for, of the sampler, and of what comes out, each the topmost of its column.
        """
        (x, y), sampler, (right, top) = places
        yes = self.add("CLIPTextEncode", x, y, {"clip": (loader, 1)}, text=text, title="Prompt")
        no = self.add("CLIPTextEncode", x, y + 165, {"clip": (loader, 1)}, title="Negative prompt")
        empty = self.add("EmptyLatentImage", x, y + 330)
        both = {"positive": (yes, 0), "negative": (no, 0)}
        sampled = self.add("KSampler", *sampler, {"model": model, **both, "latent_image": (empty, 0)})
        decoded = self.add("VAEDecode", right, top, {"samples": (sampled, 0), "vae": (loader, 2)})
        return self.add("SaveImage", right, top + 160, {"images": (decoded, 0)}, title="Pictures of the prompt")

    def forget(self, model: tuple[int, int], loader: int, x: int, y: int, concept: str) -> int:
        """A Forget Concept with everything else as it is; no word in its title, which would stay when it is changed."""
        links = {"model": model, "clip": (loader, 1), "vae": (loader, 2)}
        return self.add("UnlearnForgetConcept", x, y, links, concept=concept)

    def compare(self, before: int, after: int, loader: int, x: int, y: int, prompts: tuple[str, ...]) -> int:
        """A Before / After of two nodes' MODELs and its picture; guidance as the demo model likes it."""
        links = {"before": (before, 0), "after": (after, 0), "clip": (loader, 1), "vae": (loader, 2)}
        grid = self.add("UnlearnBeforeAfter", x, y, links, prompts="\n".join(prompts), guidance=3.0)
        return self.add("PreviewImage", x + 420, y, {"images": (grid, 0)}, title="Before, and after below it")

    def saved(self, **extra: Any) -> dict:
        """The whole file. extra: what the page keeps beside nodes and links."""
        ends = {"last_node_id": len(self.nodes), "last_link_id": len(self.links)}
        return {
            **ends,
            "nodes": self.nodes,
            "links": self.links,
            "groups": [],
            "config": {},
            "extra": extra,
            "version": 0.4,
        }


def demo_model() -> Page:
    """Draw with the bundled model."""
    page = Page()
    loader = page.add("UnlearnLoadDemoModel", 0, 0)
    page.add("Note", 0, 230, text="The demo model draws 24 objects in 4 styles: glossy, blob, flat, ink.")
    page.draw((loader, 0), loader, [(360, 0), (680, 0), (1000, 0)], "a flat banana")
    return page


def forget_one() -> Page:
    """Forget an object, look at the result, save the delta, and draw with the MODEL that has forgotten it.

    No wider than a small window shows with its texts: the page leaves them out where it is zoomed out further.
    """
    page = Page()
    loader = page.add("UnlearnLoadDemoModel", 0, 0)
    page.add(
        "Note",
        0,
        230,
        text="Press Run. It takes some ten seconds on a CPU. For your own checkpoint, use Load Checkpoint in place of "
        "Load Demo Model, and set its size in Empty Latent Image and a prompt of your own. For more settings, wire a "
        "Forget Settings node into Forget Concept.",
    )
    forget = page.forget((loader, 0), loader, 350, 0, "banana")
    page.add("PreviewImage", 740, 0, {"images": (forget, 2)}, title="Before, and after below it")
    page.add("UnlearnSaveDelta", 740, 370, {"stack": (forget, 1), "picture": (forget, 2)})
    page.draw((forget, 0), loader, [(0, 460), (740, 640), (1200, 0)], "a flat banana")
    return page


def chain_three() -> Page:
    """Three Forget Concepts in a row: each works on top of those before it."""
    page = Page()
    loader = page.add("UnlearnLoadDemoModel", 0, 0)
    page.add(
        "Note",
        0,
        230,
        text="Wire MODEL into the next Forget Concept: each works on top of those before it. "
        "Save Delta writes all three as one LoRA, loras/unlearn/forget_three.",
    )
    last = loader
    for i, concept in enumerate(("banana", "ink", "frog")):
        last = page.forget((last, 0), loader, 360 + 400 * i, 0, concept)
    prompts = ("a flat banana", "a frog in ink style", "a blob frog", "a flat cat", "a glossy guitar")
    page.compare(loader, last, loader, 1560, 0, prompts)
    page.add("UnlearnSaveDelta", 1560, 560, {"stack": (last, 1)}, name="unlearn/forget three", save="one merged file")
    return page


def stack_from_files() -> Page:
    """Saved deltas on the checkpoint; nothing is made anew."""
    page = Page()
    loader = page.add("UnlearnLoadDemoModel", 0, 0)
    first = page.add("UnlearnLoadDelta", 0, 180, delta="demo/forget_banana.safetensors")
    second = page.add("UnlearnLoadDelta", 0, 340, delta="demo/forget_cat.safetensors")
    page.add(
        "Note",
        0,
        500,
        text="Two deltas that were made apart from each other. Switch one off or change its strength, and "
        "press Run again.",
    )
    stack = page.add("UnlearnStack", 385, 180, {"stack_1": (first, 0), "stack_2": (second, 0)})
    links = {"model": (loader, 0), "clip": (loader, 1), "stack": (stack, 0)}
    applied = page.add("UnlearnApply", 385, 0, links)
    prompts = (
        "a flat banana",
        "a glossy banana",
        "a cat in ink style",
        "an ink guitar",
        "a flat cat",
        "a glossy guitar",
    )
    page.compare(loader, applied, loader, 705, 0, prompts)
    return page


def before_after() -> Page:
    """The same prompts and noise with and without a concept."""
    page = Page()
    loader = page.add("UnlearnLoadDemoModel", 0, 0)
    page.add(
        "Note",
        0,
        230,
        text="Write one prompt a line. On the node, drag the line in a picture: left is before, right is after.",
    )
    forget = page.forget((loader, 0), loader, 360, 0, "cat")
    prompts = ("a flat cat", "a cat in ink style", "a flat dog", "a glossy fox", "a blob banana", "a flat guitar")
    page.compare(loader, forget, loader, 760, 0, prompts)
    return page


def app() -> dict:
    """The first workflow as an app: a form with a button, and the pictures; nothing of the graph is seen."""
    page = Page()
    loader = page.add("UnlearnLoadDemoModel", 0, 0)
    forget = page.forget((loader, 0), loader, 360, 0, "banana")
    shown = page.add("PreviewImage", 760, 0, {"images": (forget, 2)}, title="Before, and after below it")
    save = page.add("UnlearnSaveDelta", 760, 380, {"stack": (forget, 1), "picture": (forget, 2)})
    asked = [[forget, name] for name in ("concept", "anchor", "keep", "quality", "force")]
    inputs = [[loader, "kind"], *asked, [save, "name"]]
    return page.saved(linearMode=True, linearData={"inputs": inputs, "outputs": [shown]})


NAMES = {
    "Draw with the demo model": demo_model,
    "Forget one concept": forget_one,
    "Forget three concepts": chain_three,
    "Stack saved deltas": stack_from_files,
    "Before and after": before_after,
}
"""{title in the template browser, which is the file's name: what makes it}."""


APP = "Forget"


def workflows() -> dict[str, dict]:
    """{file name without ending: what is in the file}."""
    return {APP: app()} | {name: make().saved() for name, make in NAMES.items()}


if __name__ == "__main__":
    for name, page in workflows().items():
        (FOLDER / f"{name}.json").write_text(json.dumps(page, indent=1) + "\n", "utf-8", newline="\n")
