"""What is wrong with a workflow is said on the node that it is wrong with, before anything runs."""

import time

import pytest

pytest.importorskip("aiohttp", reason="needs requirements/comfy.txt")

from tests.comfy.client import NodeFailed, Rejected
from tests.comfy.workflows import DEMO, QUICK, forget, forgetting, node

pytestmark = pytest.mark.full

BANANA = "demo/forget_banana.safetensors"
WRONG = {
    "empty": ({"concept": "  "}, "Name the concept to forget: it is empty."),
    "control characters": ({"concept": "cat\u202e"}, "invisible control characters"),
    "itself": ({"anchor": "Bananas"}, "cannot be replaced by itself"),
    "a sentence": ({"concept": "a photo of a cat on a sofa"}, "which word is meant: 'cat' or 'sofa'"),
    "no word": ({"concept": "<lora:x:1>"}, "names no concept"),
    "several to draw": ({"anchor": "cat, dog"}, "name one concept, not 2"),
}


def refused(page, workflow):
    """What each node is told of a workflow that does not start."""
    begun = len(page.events)
    with pytest.raises(Rejected) as error:
        page.queue(workflow)
    assert not [e for e in page.events[begun:] if e.type == "execution_start"]
    return error.value.sentences()


def chained(first, second, **values):
    """Two Forget Concepts, one on top of the other, on "forget" and "second"."""
    links = {"model": ["forget", 0], "clip": ["load", 1]}
    return forgetting(DEMO, first, **QUICK) | forget("second", second, links, **{**QUICK, **values})


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_request_is_one_sentence_on_its_node(page, case):
    values, sentence = WRONG[case]
    workflow = forgetting(DEMO, "banana")
    workflow["forget"]["inputs"] |= values
    found = refused(page, workflow)
    assert list(found) == ["forget"] and len(found["forget"]) == 1
    assert found["forget"][0].startswith("concept - ") and sentence in found["forget"][0]


def test_words_that_come_by_a_link_are_read_when_they_are_there(page):
    workflow = forgetting(DEMO, "banana")
    workflow |= {"text": node("PrimitiveString", value=" ")}
    workflow["forget"]["inputs"]["concept"] = ["text", 0]
    with pytest.raises(NodeFailed, match="Name the concept to forget: it is empty"):
        page.run(workflow)


def test_the_first_node_of_a_chain_does_not_start_where_the_second_cannot(page):
    found = refused(page, chained("pear", ""))
    assert found["second"] == ["concept - Name the concept to forget: it is empty."]
    assert "'Forget Concept' (node second) of the same chain cannot run: Name the concept" in found["forget"][0]


def test_what_goes_twice_in_a_chain_is_known_before(page):
    assert "already forgotten 'pear'" in refused(page, chained("pear", "a Pear"))["second"][0]
    instead = refused(page, chained("pear", "dog", anchor="pears"))
    assert "has forgotten 'pear', so 'pear' cannot be drawn" in instead["second"][0]


def test_what_is_switched_off_has_not_gone(page):
    workflow = chained("tomato", "apple", anchor="tomato")
    workflow["forget"]["inputs"]["strength"] = 0
    text = page.run(workflow).outputs["second"]["text"][0]
    assert "Draws instead: tomato" in text and "On top of" not in text
    workflow |= {"zero": node("PrimitiveFloat", value=0.0)}
    workflow["forget"]["inputs"]["strength"] = ["zero", 0]
    assert "has forgotten 'tomato', so 'tomato' cannot" in refused(page, workflow)["second"][0], "not known yet"


def test_a_long_chain_is_read_in_no_time(page):
    """Each node is read once, however many stand on it."""
    names = ["banana", "cat", "car", "frog", "apple", "dog", "bus", "fish", "fox", "lemon", "pear", "truck", "turtle"]
    workflow = forgetting(DEMO, names[0], **QUICK)
    below = "forget"
    for name in (*names[1:], "banana"):
        workflow |= forget(f"{name} on top", name, {"model": [below, 0], "clip": ["load", 1]}, **QUICK)
        below = f"{name} on top"
    begun = time.monotonic()
    assert any("already" in told[0] for told in refused(page, workflow).values())
    assert time.monotonic() - begun < 3.0


def test_what_is_not_to_run_is_not_in_the_way(page):
    """ComfyUI runs a single node with what it needs, where the page asks for that."""
    workflow = chained("pear", "")
    request = {"prompt": workflow, "client_id": page.client_id, "partial_execution_targets": ["delta"]}
    started = page.post("/prompt", request)["prompt_id"]
    page.until(lambda e: e.type == "execution_start" and e.of(started))
    page.interrupt()
    page.until(lambda e: e.type in ("execution_interrupted", "execution_success") and e.of(started))
    with pytest.raises(Rejected, match="it is empty"):
        page.post("/prompt", {**request, "partial_execution_targets": ["second"]})


def test_through_other_nodes_too(page):
    workflow = chained("pear", "pear")
    workflow["between"] = node("ModelSamplingDiscrete", model=["forget", 0], sampling="eps", zsnr=False)
    workflow["second"]["inputs"]["model"] = ["between", 0]
    assert "already forgotten 'pear'" in refused(page, workflow)["second"][0]


@pytest.mark.parametrize(
    ("key", "name", "value", "kind"),
    [
        ("forget", "strength", 3.0, "value_bigger_than_max"),
        ("forget", "seed", -1, "value_smaller_than_min"),
        ("forget", "resolution", "much", "invalid_input_type"),
        ("forget settings", "rank", 0, "value_smaller_than_min"),
        ("forget", "model", ["load", 1], "return_type_mismatch"),
    ],
)
def test_comfyui_still_checks_types_bounds_and_choices(page, key, name, value, kind):
    workflow = forgetting(DEMO, "banana", rank=4)
    workflow[key]["inputs"][name] = value
    begun = len(page.events)
    with pytest.raises(Rejected) as error:
        page.queue(workflow)
    errors = error.value.answer["node_errors"][key]["errors"]
    assert kind in {e["type"] for e in errors}
    assert not [e for e in page.events[begun:] if e.type == "execution_start"]


def test_a_choice_that_there_is_not_is_refused(page):
    """Older versions of ComfyUI do not check the choices of such nodes."""
    workflow = forgetting(DEMO, "banana", layers="all")
    with pytest.raises(Rejected, match="Layers: 'all' is not one of kv, cross, attention|not in list"):
        page.queue(workflow)
    save = node("UnlearnSaveDelta", stack=["file", 0], name="x", save="everything")
    with pytest.raises((Rejected, NodeFailed), match="'everything' is not one of newest delta|not in list"):
        page.run({"file": node("UnlearnLoadDelta", delta=BANANA, strength=1.0), "save": save})


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "C:\\x", "\\\\server\\x", "a" * 500, "x\0y"])
def test_a_name_that_leads_out_of_the_folder_is_refused(page, name):
    save = node("UnlearnSaveDelta", stack=["file", 0], name=name)
    found = refused(page, {"file": node("UnlearnLoadDelta", delta=BANANA, strength=1.0), "save": save})
    assert list(found) == ["save"] and found["save"][0].startswith("name - Name: ")


def test_a_delta_that_is_not_there_or_damaged_is_refused(comfy, page):
    show = {"show": node("PreviewAny", source=["file", 0])}
    found = refused(page, {"file": node("UnlearnLoadDelta", delta="none.safetensors", strength=1.0), **show})
    assert "There is no file 'none.safetensors' in the loras folder" in found["file"][0]
    (comfy.models / "loras" / "broken.safetensors").write_bytes(b"no delta at all")
    page.object_info("UnlearnLoadDelta")
    found = refused(page, {"file": node("UnlearnLoadDelta", delta="broken.safetensors", strength=1.0), **show})
    assert "'broken.safetensors'" in found["file"][0]


def test_nodes_that_show_something_need_no_other_node_after_them(page):
    """Alone they are a workflow, so what is told is what is wrong with them."""
    alone = {k: v for k, v in forgetting(DEMO, "").items() if k in ("load", "forget")}
    assert "it is empty" in refused(page, alone)["forget"][0]
    values = {"prompts": " \n", "seed": 0, "steps": 2, "guidance": 3.0, "resolution": 64}
    links = {"before": ["load", 0], "after": ["load", 0], "clip": ["load", 1]}
    found = refused(page, {"load": DEMO, "compare": node("UnlearnBeforeAfter", **links, **values)})
    assert "Write one prompt a line" in found["compare"][0]
