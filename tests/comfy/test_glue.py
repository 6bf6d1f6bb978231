"""What this pack has to do with each ComfyUI: its nodes and workflows, a quick run, files, stops, restarts."""

import json

import pytest
import torch

pytest.importorskip("aiohttp", reason="needs requirements/comfy.txt")

from tests.comfy.client import Interrupted, NodeFailed
from tests.comfy.server import PACK, Server
from tests.comfy.sources import ROOT
from tests.comfy.workflows import (
    DEMO,
    OWN,
    QUICK,
    WIDGETS,
    forget,
    forgetting,
    node,
    of_kind,
    own_events,
    pictures,
    saved_as,
    shipped,
    text_to_image,
)
from unlearn_core import ForgetConfig, load, settings

pytestmark = pytest.mark.full

NODES = {
    "ForgetConcept",
    "ForgetSettings",
    "Stack",
    "Apply",
    "Balance",
    "LoadDelta",
    "SaveDelta",
    "BeforeAfter",
    "LoadDemoModel",
}
WORKFLOWS = sorted(f.stem for f in (ROOT / "example_workflows").glob("*.json"))
OLD_VALUES = {"steps": 7, "rank": 4, "guard_weight": 0.3, "null_space": 0.5, "check": False, "learning_rate": 1e-3}
"""Settings by names of earlier versions, which were inputs of Forget Concept itself."""


@pytest.fixture(scope="module")
def pear(comfy):
    """A quick run that forgets a pear, and its workflow."""
    workflow = forgetting(DEMO, "pear", **QUICK)
    with comfy.client() as page:
        return page.run(workflow), workflow


@pytest.fixture(scope="module")
def info(comfy):
    """What the server says of its nodes."""
    with comfy.client() as page:
        return page.object_info()


def config_of(comfy, run):
    """The settings in the delta that a run saved."""
    return load(comfy.models / "loras" / saved_as(run)).info.config


def test_the_nodes_are_listed_with_few_widgets_and_say_what_they_are(comfy, page, info):
    assert page.get("/system_stats")["system"]["comfyui_version"] == comfy.version
    assert {name for name in info if name.startswith("Unlearn")} == {f"Unlearn{name}" for name in NODES}
    for name in NODES:
        described = info[f"Unlearn{name}"]["input"]
        for key, (_, *options) in (described.get("required", {}) | described.get("optional", {})).items():
            assert options[0].get("tooltip"), f"{name}.{key}"
    order = info["UnlearnForgetConcept"]["input_order"]
    shown = [name for name in order["required"] + order["optional"] if name in OWN]
    assert shown == ["concept", "anchor", "keep", "kind", "quality", "strength", "seed", "resolution", "force"]


def test_every_other_setting_is_in_forget_settings_with_its_own_steps(info):
    inputs = info["UnlearnForgetSettings"]["input"]["optional"]
    others = {f.name: f for f in settings() if f.name not in OWN | {"on_stop"}}
    assert list(inputs) == list(others)
    for name, f in others.items():
        options, trains = inputs[name][-1], f.metadata["group"] == "training"
        assert options["display_name"].endswith("(only if it trains)") == trains, name
        assert options.get("advanced", False) == trains, f"{name}: what acts only in training is folded away"
        assert options["default"] == f.default and options.get("step") == f.metadata.get("step"), name
        if isinstance(f.default, float) and f.default:
            assert 0.01 <= options["step"] / abs(f.default) <= 0.25, f"{name}: a step that a hand can use"


def test_label_help_and_bounds_of_every_setting_are_the_cores(info):
    inputs = {name: facts for node in ("ForgetConcept", "ForgetSettings") for name, facts in inputs_of(info, node)}
    for f in settings():
        if f.name == "on_stop":
            continue  # an interrupted workflow has no outputs
        options, facts = inputs[f.name][-1], f.metadata
        assert options["display_name"].removesuffix(" (only if it trains)") == facts["label"], f.name
        assert options["tooltip"].startswith(facts["help"]), f.name
        wanted = {"min": facts.get("low"), "max": facts.get("high"), "step": facts.get("step")}
        assert {key: options.get(key) for key in wanted} == wanted, f.name


def inputs_of(info, node):
    """(name, [type, facts]) of all inputs of a node."""
    described = info[f"Unlearn{node}"]["input"]
    return (described.get("required", {}) | described.get("optional", {})).items()


def test_labels_are_written_in_one_way_and_people_find_the_nodes(comfy, info):
    for name in NODES:
        part = info[f"Unlearn{name}"]
        for key, (kind, *options) in (part["input"].get("required", {}) | part["input"].get("optional", {})).items():
            if isinstance(kind, list) or kind in WIDGETS:
                label = options[0].get("display_name", "")
                assert label[:1].isupper() and "_" not in label, f"{name}.{key}"
        if comfy.version != "0.3.75":
            assert {"erase", "remove", "negative", "unlearn", "concept"} <= set(part["search_aliases"])


def test_each_node_has_a_help_page(page):
    for name in NODES:
        help_page = page.request(f"/extensions/{PACK}/docs/Unlearn{name}.md").decode()
        assert help_page.startswith("# ") and len(help_page) > 150, name


def test_shipped_workflows_open(info):
    for name in WORKFLOWS:
        prompt = shipped(name, info)
        for part in prompt.values():
            known = info[part["class_type"]]["input"]
            names = {*known.get("required", {}), *known.get("optional", {})}
            assert set(known.get("required", {})) <= set(part["inputs"]) <= names, (name, part)


def test_a_quick_run_forgets_and_shows_how_far_it_is(comfy, page, pear):
    run, _ = pear
    text = run.outputs["forget"]["text"][0]
    assert "Result: not checked" in text and "How: at once" in text and "%" not in text
    bar = [e.data for e in run.events if e.type == "progress" and e.data["node"] == "forget"]
    values = [p["value"] for p in bar]
    assert all(a < b for a, b in zip(values, values[1:], strict=False)) and values[-1] == bar[0]["max"]
    own = own_events(run)
    assert {e["node"] for e in own} == {"forget"}
    assert list(dict.fromkeys(e["phase"] for e in own)) == ["choosing", "editing", "drawing", "done"]
    fractions = [e["fraction"] for e in own]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0 > fractions[-2]


def test_a_saved_delta_in_the_stock_loader_is_the_nodes_model(comfy, page, pear):
    run, _ = pear
    stock = text_to_image(DEMO, "a pear", 128)
    plain = pictures(page, page.run(stock))
    stock["lora"] = node("LoraLoaderModelOnly", model=["load", 0], lora_name=saved_as(run), strength_model=1.0)
    stock["sample"]["inputs"]["model"] = ["lora", 0]
    with_lora = pictures(page, page.run(stock))
    assert torch.equal(with_lora, pictures(page, run)) and not torch.equal(with_lora, plain)
    log = comfy.log_text()
    assert "lora key not loaded" not in log and "NOT LOADED" not in log


def test_inputs_of_earlier_versions_are_honoured(comfy, page):
    workflow = forgetting(DEMO, "violin", **{k: v for k, v in QUICK.items() if k in OWN - {"quality"}})
    workflow["forget"]["inputs"] |= {**OLD_VALUES, "sampling_steps": 2, "no setting at all": 3}
    run = page.run(workflow)
    assert "Result: not checked" in run.outputs["forget"]["text"][0]
    wanted = {"steps": 7, "rank": 4, "preservation_weight": 0.3, "learning_rate": 1e-3, "quality": "quick"}
    config = config_of(comfy, run)
    assert {name: config[name] for name in wanted} == wanted and config["sampling_steps"] == 2


def test_forget_settings_act(comfy, page):
    run = page.run(forgetting(DEMO, "violin", **QUICK, rank=3, overshoot=0.25))
    delta = load(comfy.models / "loras" / saved_as(run))
    assert {f.rank for f in delta.factors.values()} == {3}
    wanted = ForgetConfig(
        concept="violin", **{k: v for k, v in QUICK.items() if k != "resolution"}, rank=3, overshoot=0.25
    )
    assert delta.info.config == wanted.deciding()


def test_the_second_node_works_on_top_of_the_first(comfy, page, pear):
    run, workflow = pear
    workflow = json.loads(json.dumps(workflow))
    links = {"model": ["forget", 0], "clip": ["load", 1], "vae": ["load", 2]}
    workflow |= forget("second", "ink", links, **{**QUICK, "anchor": "flat"})
    workflow["delta"]["inputs"]["stack"] = ["second", 1]
    second = page.run(workflow)
    assert "On top of: pear" in second.outputs["second"]["text"][0]
    parents = load(comfy.models / "loras" / saved_as(second)).info.parents
    assert [p.sha256 for p in parents] == [load(comfy.models / "loras" / saved_as(run)).content_hash()]


def test_a_list_is_one_delta_each_and_all_are_saved(comfy, page):
    run = page.run(forgetting(DEMO, "a Cat, frogs", **QUICK))
    text, saved = run.outputs["forget"]["text"][0], run.outputs["delta"]["text"]
    understood = "'a Cat, frogs' was understood as 2 concepts, one delta each: 'cat', 'frog'."
    kinds = [e.type for e in run.events]
    (told,) = [e.data["text"] for e in run.events if e.type == "unlearn.note"]
    assert told == understood and kinds.index("unlearn.note") < kinds.index("unlearn.progress"), "before any work"
    assert understood in text and "On top of: cat" in text
    deltas = [load(comfy.models / "loras" / line.removeprefix("saved as ")) for line in saved]
    assert [d.info.concept for d in deltas] == ["cat", "frog"]
    fractions = [e["fraction"] for e in own_events(run)]
    assert fractions == sorted(fractions) and fractions[-1] == 1


def test_a_model_with_another_lora_is_taken_as_it_is(comfy, page, pear):
    run, _ = pear
    workflow = forgetting(DEMO, "truck", **QUICK)
    lora = node("LoraLoaderModelOnly", model=["load", 0], lora_name=saved_as(run), strength_model=0.5)
    workflow["lora"], workflow["forget"]["inputs"]["model"] = lora, ["lora", 0]
    done = page.run(workflow)
    patches = len(load(comfy.models / "loras" / saved_as(run)).factors)
    assert f"Other LoRAs on the MODEL: yes, {patches} patches" in done.outputs["forget"]["text"][0]
    assert load(comfy.models / "loras" / saved_as(done)).info.parents == ()
    without = page.run(forgetting(DEMO, "truck", **QUICK))
    assert "Other LoRAs" not in without.outputs["forget"]["text"][0]
    assert "From the cache" not in without.outputs["forget"]["text"][0], "another MODEL is another request"


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


def test_saved_deltas_are_stacked_and_compared(page, info):
    """The shipped workflow that needs nothing but the pack's own files."""
    prompt = shipped("Stack saved deltas", info)
    run = page.run(prompt)
    (shown,) = of_kind(prompt, "PreviewImage")
    before, after = pictures(page, run, shown)[0].chunk(2, dim=1)
    assert before.std() > 0.05 and after.std() > 0.05 and (before - after).abs().mean() > 0.005


def test_an_interrupt_leaves_the_model_as_it_was(comfy, page):
    plain = text_to_image(DEMO, "a cat", 128)
    before = pictures(page, page.run(plain))
    started = page.queue(forgetting(DEMO, "cat", **{**QUICK, "quality": "normal"}))
    page.until(lambda e: e.type == "unlearn.progress" and e.data["phase"] == "before")
    page.interrupt()
    with pytest.raises(Interrupted):
        page.wait(started)
    page.free()
    assert torch.equal(pictures(page, page.run(plain)), before)


def test_after_a_restart_the_delta_is_still_there(comfy, page, pear):
    run, workflow = pear
    with Server(comfy.version, comfy.folder) as restarted, restarted.client() as other:
        again = other.run(workflow)
        assert {e["phase"] for e in own_events(again)} == {"done"}, "its pictures are still there too"
        assert "From the cache" in again.outputs["forget"]["text"][0]
        assert torch.equal(pictures(other, again), pictures(page, run)) and saved_as(again) == saved_as(run)
