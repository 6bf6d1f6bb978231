"""The bundled flow transformer in ComfyUI's own Qwen-Image class: one layer forgets, and stock nodes draw with it."""

import pytest

pytest.importorskip("aiohttp", reason="needs requirements/comfy.txt")

from tests.comfy.sources import NEWEST, seen_inside
from tests.comfy.test_default_path import share
from tests.comfy.workflows import forgetting, node, pictures, saved_as, text_to_image
from unlearn_core import load

pytestmark = pytest.mark.full

FLOW = node("UnlearnLoadDemoModel", kind="flow transformer, as Qwen-Image")
DRAWN = {"steps": 12, "cfg": 3.0, "seed": 5}


def drawing(prompt, lora=None, strength=1.0):
    """Four pictures by stock nodes, with a LoRA where one is named."""
    nodes = text_to_image(FLOW, prompt, 128, **DRAWN)
    nodes["empty"]["inputs"]["batch_size"] = 4
    if lora:
        nodes["lora"] = node("LoraLoaderModelOnly", model=["load", 0], lora_name=lora, strength_model=strength)
        nodes["sample"]["inputs"]["model"] = ["lora", 0]
    return nodes


@pytest.mark.parametrize("lazy", [False, True])
def test_both_flow_demos_are_in_comfyui_what_they_are_in_the_benchmark(lazy):
    seen = seen_inside(NEWEST, "flow_parity.py", lazy=lazy)
    assert seen.keys() == {"flow", "flow_t5"}
    for row in seen.values():
        assert row.pop("fingerprint") and row.pop("rough"), "latents without a known preview are shown too"
        assert all(difference < 1e-4 for difference in row.values()), row


@pytest.mark.parametrize("comfy", [NEWEST], indirect=True)
def test_a_concept_is_forgotten_by_one_layer_and_the_stock_sampler_draws_without_it(comfy, page):
    """Costs a minute: the check of a request looks at some five thousand rows."""
    run = page.run(forgetting(FLOW, "banana"))
    text = run.outputs["forget"]["text"][0]
    assert "Result: forgotten, the rest preserved" in text and "How: at once" in text
    name = saved_as(run)
    delta = load(comfy.models / "loras" / name)
    assert list(delta.factors) == ["diffusion_model.txt_in"] and delta.info.prediction_type == "flow"
    for prompt, thing, left in (("a flat banana", "banana", 0.0), ("a flat car", "car", 1.0)):
        before = pictures(page, page.run(drawing(prompt)))
        after = pictures(page, page.run(drawing(prompt, name)))
        assert share(before, thing) == 1.0 and share(after, thing) == left
        assert (pictures(page, page.run(drawing(prompt, name, 0.0))) == before).all()
    assert "lora key not loaded" not in comfy.log_text()
