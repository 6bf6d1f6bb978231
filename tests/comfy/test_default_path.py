"""The default path, once and whole, in the newest ComfyUI: boot, forget, save, the stock loader, an interrupt."""

import pytest
import torch

pytest.importorskip("aiohttp", reason="needs requirements/comfy.txt")

from tests.comfy.client import Interrupted
from tests.comfy.sources import NEWEST, ROOT
from tests.comfy.workflows import DEMO, forgetting, of_kind, own_events, pictures, shipped, text_to_image
from unlearn_core import load
from unlearn_core.demo.classifier import DemoClassifier

pytestmark = pytest.mark.parametrize("comfy", [NEWEST], indirect=True)

ANSWERED = 2.0
"""Seconds within which an interrupt has to be heard."""


def share(drawn, name):
    """Part of the pictures that the bundled classifier reads as an object or a style."""
    seen = DemoClassifier.load(ROOT / "assets" / "demo" / "classifier.safetensors").recognise(drawn * 2 - 1)
    return sum(name in answer for answer in seen) / len(seen)


def test_a_concept_is_forgotten_saved_and_loaded_by_the_stock_node(comfy, page):
    """The template as it is shipped."""
    prompt = shipped("Forget one concept", page.object_info())
    (forget,), (save,), (sampler,), (delta,) = (
        of_kind(prompt, kind) for kind in ("UnlearnForgetConcept", "SaveImage", "KSampler", "UnlearnSaveDelta")
    )
    run = page.run(prompt)
    after = pictures(page, run, save)
    assert share(after, "banana") == 0.0
    text = run.outputs[forget]["text"][0]
    assert "Result: forgotten, the rest preserved" in text and "How: at once" in text
    phases = list(dict.fromkeys(e["phase"] for e in own_events(run)))
    assert phases == ["sampling", "choosing", "before", "editing", "after", "done"], "the run's own pictures are shown"

    name = run.outputs[delta]["text"][0].removeprefix("saved as ")
    file = comfy.models / "loras" / name
    assert load(file).info.concept == "banana" and file.with_suffix(".preview.png").exists()
    plain = {k: v for k, v in prompt.items() if k not in (forget, delta) and v["class_type"] != "PreviewImage"}
    (loader,) = of_kind(prompt, "UnlearnLoadDemoModel")
    plain["lora"] = {
        "class_type": "LoraLoaderModelOnly",
        "inputs": {"model": [loader, 0], "lora_name": name, "strength_model": 1.0},
    }
    plain[sampler]["inputs"]["model"] = ["lora", 0]
    assert torch.equal(pictures(page, page.run(plain), save), after)
    plain["lora"]["inputs"]["strength_model"] = 0.0
    assert share(pictures(page, page.run(plain), save), "banana") == 1.0
    assert "lora key not loaded" not in comfy.log_text()


def test_an_interrupt_is_heard_and_leaves_nothing(comfy, page):
    plain = text_to_image(DEMO, "a cat", 128)
    before = pictures(page, page.run(plain))
    cached = sorted((comfy.folder / "user").rglob("unlearn_cache/*.*"))
    started = page.queue(forgetting(DEMO, "cat"))
    page.until(lambda e: e.type == "unlearn.progress" and e.data["phase"] == "choosing" and e.data["fraction"] > 0.1)
    asked = len(page.events)
    page.interrupt()
    with pytest.raises(Interrupted):
        page.wait(started)
    first, *_ = page.events[asked - 1 :]
    heard = next(e for e in page.events[asked:] if e.type == "execution_interrupted")
    assert heard.time - first.time < ANSWERED
    assert sorted((comfy.folder / "user").rglob("unlearn_cache/*.*")) == cached
    page.free()
    assert torch.equal(pictures(page, page.run(plain)), before)
