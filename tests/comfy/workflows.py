"""Workflows in the form that ComfyUI's API takes: {node id: {class_type, inputs}}, a link is [node id, output]."""

from __future__ import annotations

import io
import json
from contextlib import contextmanager

import numpy as np
import torch
from PIL import Image

from tests.comfy.sources import ROOT
from unlearn_core import settings
from unlearn_core.config import REQUEST

DEMO = {"class_type": "UnlearnLoadDemoModel", "inputs": {}}
OWN = {f.name for f in settings() if f.metadata["group"] == REQUEST} | {"strength", "resolution"}
"""Widgets of Forget Concept; all other settings are widgets of Forget Settings."""
QUICK = {"anchor": "dog", "quality": "quick", "sampling_steps": 2, "resolution": 64}
"""Inputs of a run that asks for no pictures but the node's own, of half the demo model's side."""
TRAINED = {"anchor": "dog", "closed_form": False, "steps": 3, "batch": 2, "preservation_weight": 0.0}
TRAINED |= {"sampling_steps": 2, "resolution": 64}
"""Inputs of a run that trains, and learns next to nothing in seconds."""
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}


@contextmanager
def reduced(page, **changes):
    """All runs of the page's server with few pictures, for the length of a block.

    changes: to the recipes for tests.
    """
    assert page.post("/probe/small", changes) >= 1
    try:
        yield
    finally:
        page.post("/probe/small", None)


def node(kind: str, /, **inputs) -> dict:
    """One node."""
    return {"class_type": kind, "inputs": inputs}


def text_to_image(loader: dict, prompt: str = "a banana", side: int = 64, **sampling) -> dict:
    """Stock nodes from a loader of MODEL, CLIP and VAE (node "load") to a saved picture (node "save").

    sampling: inputs of the stock sampler in place of those below.
    """
    chosen = {"seed": 1, "steps": 2, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    links = {"positive": ["yes", 0], "negative": ["no", 0], "latent_image": ["empty", 0]}
    return {
        "load": loader,
        "yes": node("CLIPTextEncode", clip=["load", 1], text=prompt),
        "no": node("CLIPTextEncode", clip=["load", 1], text=""),
        "empty": node("EmptyLatentImage", width=side, height=side, batch_size=1),
        "sample": node("KSampler", model=["load", 0], **links, **{**chosen, **sampling}),
        "decode": node("VAEDecode", samples=["sample", 0], vae=["load", 2]),
        "save": node("SaveImage", images=["decode", 0], filename_prefix="test"),
    }


def forget(key: str, concept: str, links: dict[str, list], **values) -> dict[str, dict]:
    """A Forget Concept as node `key`; what is no widget of its own comes from a Forget Settings, "`key` settings".

    links: its inputs from other nodes.
    """
    further = {name: value for name, value in values.items() if name not in OWN}
    own = {name: value for name, value in values.items() if name in OWN}
    if not further:
        return {key: node("UnlearnForgetConcept", **links, concept=concept, **own)}
    links = {**links, "settings": [f"{key} settings", 0]}
    return {
        f"{key} settings": node("UnlearnForgetSettings", **further),
        key: node("UnlearnForgetConcept", **links, concept=concept, **own),
    }


def forgetting(loader: dict, target: str, prompt: str = "", side: int = 128, **values) -> dict:
    """Load, forget (node "forget"), draw and save a picture ("save"), save the delta ("delta")."""
    workflow = text_to_image(loader, prompt or f"a {target}", side)
    workflow |= forget("forget", target, {"model": ["load", 0], "clip": ["load", 1], "vae": ["load", 2]}, **values)
    workflow["sample"]["inputs"]["model"] = ["forget", 0]
    workflow["delta"] = node("UnlearnSaveDelta", stack=["forget", 1], name="")
    return workflow


def saved_as(run) -> str:
    """The name of the file that node "delta" wrote."""
    return run.outputs["delta"]["text"][0].removeprefix("saved as ")


def pictures(page, run, output: str = "save") -> torch.Tensor:
    """A node's saved pictures, `[n, 3, H, W]` in 0..1."""
    images = [Image.open(io.BytesIO(page.view(a))).convert("RGB") for a in run.images(output)]
    return torch.stack([torch.from_numpy(np.asarray(i).copy()).movedim(-1, 0) for i in images]) / 255


def own_events(run) -> list[dict]:
    """What our nodes told the page during a run."""
    return [e.data for e in run.events if e.type == "unlearn.progress"]


def checkpoint_loader(name: str) -> dict:
    """The stock loader of a checkpoint."""
    return node("CheckpointLoaderSimple", ckpt_name=name)


def shipped(name: str, object_info: dict) -> dict:
    """A workflow of `example_workflows/` as the page would send it.

    object_info: the server's description of its nodes, which says which inputs are widgets and in what order.
    """
    return as_sent(json.loads((ROOT / "example_workflows" / f"{name}.json").read_text("utf-8")), object_info)


def as_sent(page: dict, object_info: dict) -> dict:
    """A workflow as the page saves it in the form in which it sends it."""
    links = {link: [str(source), slot] for link, source, slot, *_ in page["links"]}
    prompt = {}
    for part in page["nodes"]:
        if part["type"] == "Note":
            continue
        described = object_info[part["type"]]["input"]
        inputs = {**described.get("required", {}), **described.get("optional", {})}
        values = iter(part["widgets_values"])
        sent = {}
        for key, (kind, *options) in inputs.items():
            if isinstance(kind, list) or kind in WIDGETS:
                sent[key] = next(values)
                if key == "seed" and (options[0] if options else {}).get("control_after_generate", True):
                    next(values)  # what the page does to the seed afterwards
        assert next(values, None) is None, f"{part['type']} has more values than widgets"
        sent |= {i["name"]: links[i["link"]] for i in part["inputs"] if i["link"] is not None}
        prompt[str(part["id"])] = node(part["type"], **sent)
    return prompt


def of_kind(prompt: dict, kind: str) -> list[str]:
    """Ids of all nodes of a kind, in order."""
    return [key for key, part in prompt.items() if part["class_type"] == kind]
