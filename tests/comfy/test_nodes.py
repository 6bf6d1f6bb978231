"""The pack's nodes inside real ComfyUI: forget, stack, save, stop, and everything as it was afterwards."""

import json

import pytest
import torch

pytest.importorskip("aiohttp", reason="needs requirements/comfy.txt")

from tests.comfy.client import NodeFailed
from tests.comfy.sources import ROOT
from tests.comfy.workflows import (
    DEMO,
    QUICK,
    forget,
    forgetting,
    node,
    of_kind,
    own_events,
    pictures,
    reduced,
    saved_as,
    shipped,
    text_to_image,
)
from unlearn_core import load
from unlearn_core.demo.classifier import DemoClassifier

pytestmark = pytest.mark.slow

WORKFLOWS = sorted(f.stem for f in (ROOT / "example_workflows").glob("*.json"))


def share(drawn, name):
    """Part of the pictures that the bundled classifier reads as an object or a style."""
    seen = DemoClassifier.load(ROOT / "assets" / "demo" / "classifier.safetensors").recognise(drawn * 2 - 1)
    return sum(name in answer for answer in seen) / len(seen)


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


OTHERS = [name for name in WORKFLOWS if name != "unlearn_forget_one"]


@pytest.mark.usefixtures("few_pictures")
@pytest.mark.parametrize("name", OTHERS)
def test_the_other_shipped_workflows_run(page, name):
    """As they are, but that each Forget Concept learns for a few steps."""
    prompt = shipped(name, page.object_info())
    for key in of_kind(prompt, "UnlearnForgetConcept"):
        target = prompt[key]["inputs"]["concept"]
        prompt[key]["inputs"] |= {**QUICK, "anchor": "flat" if target == "ink" else "dog"}
    run = page.run(prompt)
    for key in of_kind(prompt, "SaveImage") + of_kind(prompt, "PreviewImage"):
        drawn = pictures(page, run, key)
        assert drawn.std() > 0.05 and drawn.shape[-1] >= 128


def test_forget_one_as_shipped(comfy, page):
    prompt = shipped("unlearn_forget_one", page.object_info())
    (forget,), (save,) = of_kind(prompt, "UnlearnForgetConcept"), of_kind(prompt, "SaveImage")
    plain = json.loads(json.dumps(prompt))
    (sampler,) = of_kind(plain, "KSampler")
    plain[sampler]["inputs"]["model"] = prompt[forget]["inputs"]["model"]
    before = pictures(page, page.run(plain), save)
    run = page.run(prompt)
    after = pictures(page, run, save)
    assert share(before, "banana") == 1.0
    assert share(after, "banana") == 0.0
    reports = own_events(run)
    again = page.run(prompt)
    assert torch.equal(pictures(page, again, save), after)
    files = list((comfy.models / "loras").glob("forget_banana*.safetensors"))
    assert len(files) == 1 and load(files[0]).info.concept == "banana"
    assert files[0].with_suffix(".preview.png").exists()
    seen = {e["phase"] for e in reports}
    assert not reports or {"sampling", "choosing", "before", "editing", "after"} <= seen


@pytest.fixture(scope="module")
def pear(comfy):
    """A quick run that forgets a pear, and its workflow."""
    workflow = forgetting(DEMO, "pear", **QUICK)
    with comfy.client() as page, reduced(page):
        return page.run(workflow), workflow


def test_without_the_check_nobody_has_looked_and_the_pictures_are_there(page):
    workflow = forgetting(DEMO, "pear", check=False)
    run = page.run(workflow)
    text = run.outputs["forget"]["text"][0]
    assert "not judged: without the check" in text and "in one go, firmness 30" in text and "%" not in text
    assert share(pictures(page, run), "pear") < 0.5
    assert {e["phase"] for e in own_events(run)} <= {"choosing", "editing"}


def test_a_saved_delta_in_the_stock_loader_is_the_nodes_model(comfy, page, pear):
    run, _ = pear
    stock = text_to_image(DEMO, "a pear", 128)
    stock["lora"] = node("LoraLoaderModelOnly", model=["load", 0], lora_name=saved_as(run), strength_model=1.0)
    stock["sample"]["inputs"]["model"] = ["lora", 0]
    assert torch.equal(pictures(page, page.run(stock)), pictures(page, run))
    log = comfy.log_text()
    assert "lora key not loaded" not in log and "NOT LOADED" not in log


@pytest.mark.usefixtures("few_pictures")
def test_the_second_node_learns_on_top_of_the_first(comfy, page, pear):
    run, workflow = pear
    workflow = json.loads(json.dumps(workflow))
    wish = {**QUICK, "anchor": "flat"}
    workflow["second"] = forget("ink", ["forget", 0], ["load", 1], ["load", 2], **wish)
    workflow["delta"]["inputs"]["stack"] = ["second", 1]
    second = page.run(workflow)
    assert "on top of: pear" in second.outputs["second"]["text"][0]
    parents = load(comfy.models / "loras" / saved_as(second)).info.parents
    assert [p.sha256 for p in parents] == [load(comfy.models / "loras" / saved_as(run)).content_hash()]


@pytest.mark.usefixtures("few_pictures")
def test_a_model_with_another_lora_is_learned_on_as_it_is(comfy, page, pear):
    run, _ = pear
    workflow = forgetting(DEMO, "truck", **QUICK)
    lora = node("LoraLoaderModelOnly", model=["load", 0], lora_name=saved_as(run), strength_model=0.5)
    workflow["lora"], workflow["forget"]["inputs"]["model"] = lora, ["lora", 0]
    done = page.run(workflow)
    patches = len(load(comfy.models / "loras" / saved_as(run)).factors)
    assert f"with other LoRAs on it ({patches} patches)" in done.outputs["forget"]["text"][0]
    assert load(comfy.models / "loras" / saved_as(done)).info.parents == ()
    without = page.run(forgetting(DEMO, "truck", **QUICK))
    assert saved_as(without) != saved_as(done), "the LoRA made no difference to what was learned"


def test_the_same_delta_twice_is_refused(page, pear):
    run, workflow = pear
    file = node("UnlearnLoadDelta", delta=saved_as(run), strength=1.0)
    ends = {"file": file, "show": node("PreviewAny", source=["stack", 1])}
    both = {"stack": node("UnlearnStack", stack_1=["file", 0], stack_2=["file", 0]), **ends}
    with pytest.raises(NodeFailed, match="already in the stack: it would act twice"):
        page.run(both)
    again = {**workflow, "file": file}
    apply = {"model": ["forget", 0], "clip": ["load", 1], "stack": ["file", 0], "any_base": False}
    again["twice"] = node("UnlearnApply", **apply)
    again["sample"] = node("KSampler", **{**workflow["sample"]["inputs"], "model": ["twice", 0]})
    with pytest.raises(NodeFailed, match="already in the stack: it would act twice"):
        page.run(again)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"concept": "  "}, "Name the concept"),
        ({"concept": "cat\u202e"}, "invisible control characters"),
        ({"anchor": "banana"}, "cannot be replaced by itself"),
    ],
)
def test_a_wrong_wish_is_one_sentence(page, values, sentence):
    workflow = forgetting(DEMO, "banana")
    workflow["forget"]["inputs"] |= values
    with pytest.raises(NodeFailed, match=sentence):
        page.run(workflow)
