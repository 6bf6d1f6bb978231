"""What must not reach a MODEL: a delta that harms it, one of another checkpoint, texts of another encoder."""

import pytest
import torch

pytest.importorskip("aiohttp", reason="needs requirements/comfy.txt")

from tests.comfy.client import NodeFailed
from tests.comfy.sources import NEWEST, ROOT
from tests.comfy.workflows import (
    DEMO,
    QUICK,
    TRAINED,
    forgetting,
    node,
    pictures,
    reduced,
    saved_as,
    text_to_image,
)
from unlearn_core import load
from unlearn_core.demo.recognition import CHECKPOINT

pytestmark = [pytest.mark.full, pytest.mark.parametrize("comfy", [NEWEST], indirect=True)]

CHECKED = {"anchor": "truck", "resolution": 64, "sampling_steps": 2}
UNTOUCHED = "Nothing was forgotten here: the MODEL is handed on as it came."
NOTHING_SAVED = ["nothing was saved: there is no delta on the stack"]


@pytest.fixture(scope="module")
def plain(comfy):
    """The untouched demo model's picture."""
    with comfy.client() as page:
        return pictures(page, page.run(text_to_image(DEMO, "a bus", 128)))


def test_a_delta_that_harms_too_much_is_not_handed_on_unless_forced(comfy, page, plain):
    with reduced(page, least_preserved=2.0, lost_by_chance=-10.0):
        run = page.run(forgetting(DEMO, "bus", **CHECKED))
        text = run.outputs["forget"]["text"][0]
        assert "Not kept: Nothing was handed on, because the delta harms too much" in text and UNTOUCHED in text
        assert torch.equal(pictures(page, run), plain) and run.outputs["delta"]["text"] == NOTHING_SAVED
        assert run.outputs["forget"]["unlearn_after"], "what it would have done is shown"

        forced = page.run(forgetting(DEMO, "bus", **CHECKED, force=True))
        text = forced.outputs["forget"]["text"][0]
        assert "From the cache" in text and "Not kept" not in text
        assert not torch.equal(pictures(page, forced), plain) and saved_as(forced).endswith(".safetensors")

        page.free()
        again = page.run(forgetting(DEMO, "bus", **CHECKED))
        assert UNTOUCHED in again.outputs["forget"]["text"][0], "what was forced once is still not handed on"


@pytest.mark.parametrize(
    ("at", "words"),
    [(1, "not finite"), (20, "The loss is no longer a number"), (27, "not finite")],
    ids=["at once", "in training", "in the last look"],
)
def test_numbers_that_are_none_leave_the_model_as_it_was(comfy, page, plain, at, words):
    workflow = forgetting(DEMO, "fox", "a bus", **TRAINED)
    workflow["nan"] = node("ProbeNaN", model=["load", 0], at=at)
    workflow["forget"]["inputs"]["model"] = ["nan", 0]
    kept = comfy.folder / "user" / "unlearn_cache" / "unfinished"
    before = sorted(kept.rglob("*"))
    with reduced(page):
        run = page.run(workflow)
    text = run.outputs["forget"]["text"][0]
    assert "Not kept: " in text and words in text and UNTOUCHED in text
    assert run.outputs["delta"]["text"] == NOTHING_SAVED
    assert sorted(kept.rglob("*")) == before, "nothing is left to go on with"
    assert torch.equal(pictures(page, page.run(text_to_image(DEMO, "a bus", 128))), plain)


def test_a_clip_that_does_not_fit_is_named(page, checkpoint):
    words = str(ROOT / "tests/comfy/few_words.json")
    loaders = {k: node("ProbeLoader", ckpt_name=checkpoint(k), words_file=words) for k in ("sd15", "sd2")}
    workflow = forgetting(loaders["sd15"], "cat", **QUICK) | {"other": loaders["sd2"]}
    workflow["forget"]["inputs"]["clip"] = ["other", 1]
    with pytest.raises(NodeFailed) as error:
        page.run({k: workflow[k] for k in ("load", "other", "forget", "forget settings")})
    sentence = error.value.details["exception_message"]
    assert "The CLIP does not fit the MODEL: the MODEL (sd1) reads texts of width 768, the CLIP (" in sentence
    assert ") gives 1024. Wire both from the same checkpoint." in sentence


def test_a_delta_of_another_checkpoint_is_refused_by_name(comfy, page, checkpoint):
    run = page.run(forgetting(DEMO, "mushroom", **QUICK))
    assert load(comfy.models / "loras" / saved_as(run)).info.base_name == CHECKPOINT.name
    file = node("UnlearnLoadDelta", delta=saved_as(run), strength=1.0)
    name = checkpoint("sd15")
    nodes = {"load": node("ProbeLoader", ckpt_name=name, words_file=""), "file": file}
    links = {"model": ["load", 0], "clip": ["load", 1], "stack": ["file", 0], "any_base": False}
    nodes |= {"apply": node("UnlearnApply", **links), "show": node("PreviewAny", source=["apply", 1])}
    with pytest.raises(NodeFailed) as error:
        page.run(nodes)
    sentence = error.value.details["exception_message"]
    assert f"was made for '{CHECKPOINT.name}', but the loaded checkpoint is '{name}'" in sentence
    assert "To apply it all the same, switch on 'Any base'." in sentence


def test_a_checkpoint_without_a_text_encoder_is_said(page, checkpoint):
    workflow = {"load": node("ProbeLoader", ckpt_name=checkpoint("flux-narrow"), words_file="")}
    workflow |= {"forget": node("UnlearnForgetConcept", model=["load", 0], clip=["load", 1], concept="cat")}
    with pytest.raises(NodeFailed, match=r"No CLIP came with this checkpoint"):
        page.run(workflow)
