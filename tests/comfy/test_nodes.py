"""The pack's nodes inside real ComfyUI: forget, stack, save, stop, and everything as it was afterwards."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("aiohttp", reason="needs requirements/comfy.txt")

from tests.comfy.client import Interrupted, NodeFailed
from tests.comfy.sources import ROOT
from tests.comfy.workflows import checkpoint_loader, node, of_kind, shipped, text_to_image
from unlearn_core import load
from unlearn_core.classifier import DemoClassifier

pytestmark = pytest.mark.slow

FULL = "0.30.0"
"""Where the demo model is forgotten for real; in the other versions a few steps show that all works."""
DEMO = node("UnlearnLoadDemoModel")
WORKFLOWS = sorted(f.stem for f in (ROOT / "example_workflows").glob("*.json"))


def pictures(page, run, output):
    """A node's saved pictures, `[n, 3, H, W]` in 0..1."""
    images = [Image.open(io.BytesIO(page.view(a))).convert("RGB") for a in run.images(output)]
    return torch.stack([torch.from_numpy(np.asarray(i).copy()).movedim(-1, 0) for i in images]) / 255


def share(drawn, name):
    """Part of the pictures that the bundled classifier reads as an object or a style."""
    seen = DemoClassifier.load(ROOT / "assets" / "demo" / "classifier.safetensors").recognise(drawn * 2 - 1)
    return sum(name in answer for answer in seen) / len(seen)


def forgetting(loader, target, **settings):
    """Load, forget, draw, save the delta and the picture."""
    workflow = text_to_image(loader, settings.pop("prompt", f"a {target}"), settings.pop("side", 128))
    links = {"model": ["load", 0], "clip": ["load", 1], "vae": ["load", 2]}
    workflow["forget"] = node(
        "UnlearnForgetConcept",
        **links,
        **{
            "concept": target,
            "anchor": "",
            "keep": "",
            "kind": "auto",
            "seed": 0,
            "steps": 3,
            "strength": 1.0,
            "resolution": 0,
            **settings,
        },
    )
    workflow["sample"]["inputs"]["model"] = ["forget", 0]
    workflow["delta"] = node("UnlearnSaveDelta", stack=["forget", 1], name="")
    return workflow


@pytest.mark.parametrize("name", WORKFLOWS)
def test_shipped_workflow_opens(page, name):
    prompt = shipped(name, page.object_info())
    for kind in {part["class_type"] for part in prompt.values()}:
        known = page.object_info()[kind]["input"]
        names = {*known.get("required", {}), *known.get("optional", {})}
        used = {n for part in prompt.values() if part["class_type"] == kind for n in part["inputs"]}
        assert set(known.get("required", {})) <= used <= names


def test_every_input_says_what_it_is(page):
    info = page.object_info()
    ours = {name: i for name, i in info.items() if name.startswith("Unlearn")}
    assert len(ours) == 7
    for name, described in ours.items():
        for group in ("required", "optional"):
            for key, (_, *options) in described["input"].get(group, {}).items():
                assert options[0].get("tooltip"), f"{name}.{key}"


def test_forget_one_as_shipped(comfy, page):
    prompt = shipped("unlearn_forget_one", page.object_info())
    (forget,), (save,) = of_kind(prompt, "UnlearnForgetConcept"), of_kind(prompt, "SaveImage")
    if comfy.version != FULL:
        prompt[forget]["inputs"]["steps"] = 3
    plain = json.loads(json.dumps(prompt))
    (sampler,) = of_kind(plain, "KSampler")
    plain[sampler]["inputs"]["model"] = prompt[forget]["inputs"]["model"]
    before = pictures(page, page.run(plain, timeout=900), save)
    run = page.run(prompt, timeout=900)
    after = pictures(page, run, save)
    assert share(before, "banana") == 1.0
    if comfy.version == FULL:
        assert share(after, "banana") == 0.0
    reports = [e.data for e in run.events if e.type == "unlearn.progress"]
    again = page.run(prompt, timeout=900)
    assert torch.equal(pictures(page, again, save), after)
    files = list((comfy.models / "loras").glob("forget_banana*.safetensors"))
    assert len(files) == 1 and load(files[0]).info.concept == "banana"
    assert files[0].with_suffix(".preview.png").exists()
    seen = {e["phase"] for e in reports}
    assert not reports or {"sampling", "choosing", "replay", "before", "training", "after"} <= seen


def test_progress_previews_stop_and_go_on(comfy, page):
    workflow = forgetting(DEMO, "cat", seed=5, steps=400, learning_rate=1e-6)
    plain = text_to_image(DEMO, "a cat", 128)
    before = pictures(page, page.run(plain), "save")
    run = page.queue(workflow)
    page.until(lambda e: e.type == "unlearn.progress" and e.data["losses"], 600)
    page.interrupt()
    with pytest.raises(Interrupted):
        page.wait(run)
    page.free()
    assert torch.equal(pictures(page, page.run(plain), "save"), before)
    done = page.run(forgetting(DEMO, "cat", seed=6), timeout=600)
    losses = [e.data["losses"] for e in done.events if e.type == "unlearn.progress" and e.data["losses"]]
    assert len(losses) == 3 and {"forget", "keep"} <= losses[0].keys()
    fractions = [e.data["fraction"] for e in done.events if e.type == "unlearn.progress"]
    assert fractions == sorted(fractions)


def test_a_saved_delta_in_the_stock_loader_is_the_nodes_model(comfy, page):
    run = page.run(forgetting(DEMO, "apple"), timeout=600)
    file = run.outputs["delta"]["text"][0].removeprefix("saved as ")
    stock = text_to_image(DEMO, "a apple", 128)
    stock["lora"] = node("LoraLoaderModelOnly", model=["load", 0], lora_name=file, strength_model=1.0)
    stock["sample"]["inputs"]["model"] = ["lora", 0]
    assert torch.equal(pictures(page, page.run(stock), "save"), pictures(page, run, "save"))
    log = comfy.log.read_text("utf-8", "replace")
    assert "lora key not loaded" not in log and "NOT LOADED" not in log


def test_the_second_node_learns_on_top_of_the_first(page):
    workflow = forgetting(DEMO, "apple")
    workflow["second"] = json.loads(json.dumps(workflow["forget"]))
    workflow["second"]["inputs"] |= {"model": ["forget", 0], "concept": "ink"}
    workflow["sample"]["inputs"]["model"] = ["second", 0]
    run = page.run(workflow, timeout=600)
    assert "on top of: apple" in run.outputs["second"]["text"][0]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"concept": "  "}, "Name the concept"),
        ({"concept": "cat\u202e"}, "invisible control characters"),
        ({"anchor": "banana"}, "cannot be replaced by itself"),
    ],
)
def test_a_wrong_wish_is_one_sentence(page, values, sentence):
    with pytest.raises(NodeFailed, match=sentence):
        page.run(forgetting(DEMO, "banana", **values), timeout=600)


def test_a_stock_checkpoint_trains_and_its_delta_loads_again(page, checkpoint):
    loader = checkpoint_loader(checkpoint("sd15"))
    words = {
        "anchor": "dog",
        "prompt": "a cat",
        "side": 64,
        "resolution": 64,
        "steps": 2,
        "guard_weight": 0.0,
        "sampling_steps": 1,
    }
    run = page.run(forgetting(loader, "cat", **words), timeout=900)
    file = run.outputs["delta"]["text"][0].removeprefix("saved as ")
    stock = text_to_image(loader, "a cat", 64)
    stock["lora"] = node("LoraLoaderModelOnly", model=["load", 0], lora_name=file, strength_model=1.0)
    stock["sample"]["inputs"]["model"] = ["lora", 0]
    assert torch.equal(pictures(page, page.run(stock), "save"), pictures(page, run, "save"))
    page.free()
