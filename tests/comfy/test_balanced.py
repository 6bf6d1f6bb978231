"""Balance Stack: one delta in place of two, on the MODEL and in a file; what is refused before any work.

About 25 s for each ComfyUI: few pictures are drawn.
"""

import pytest
import torch

pytest.importorskip("aiohttp", reason="needs requirements/comfy.txt")

from tests.comfy.client import NodeFailed
from tests.comfy.sources import NEWEST
from tests.comfy.test_save import saving
from tests.comfy.workflows import DEMO, node, own_events, pictures, reduced, saved_as, text_to_image
from unlearn_core import load

pytestmark = [pytest.mark.full, pytest.mark.parametrize("comfy", [NEWEST], indirect=True)]


def balancing(strengths=(1.0, 1.0), model="load"):
    """Two of the pack's own deltas balanced (node "balance"), the new one saved, and a picture drawn with it."""
    workflow = text_to_image(DEMO, "a banana", 128) | saving(strengths, name="unused")
    workflow["save"] = text_to_image(DEMO)["save"]
    workflow["balance"] = node("UnlearnBalance", model=[model, 0], clip=["load", 1], stack=["stack", 0])
    workflow["delta"] = node("UnlearnSaveDelta", stack=["balance", 1], name="balanced")
    workflow["sample"]["inputs"]["model"] = ["balance", 0]
    return workflow


def test_one_delta_takes_the_place_of_the_stack(comfy, page):
    plain = text_to_image(DEMO, "a banana", 128)
    before = pictures(page, page.run(plain))
    with reduced(page):
        run = page.run(balancing())
    words = run.outputs["balance"]["text"][0].splitlines()
    assert words[0] == "One delta in place of 2: banana, cat."
    assert words[1].startswith("Change of everything else: ")
    told = [e["message"] for e in own_events(run) if e["node"] == "balance"]
    assert "balancing 2 concepts" in told and own_events(run)[-1]["fraction"] == 1
    delta = load(comfy.models / "loras" / saved_as(run))
    assert delta.info.concepts == ("banana", "cat") and delta.info.config == {"merge": "balanced"}
    drawn = pictures(page, run)
    assert (drawn - before).abs().max() > 0.05 and torch.isfinite(drawn).all()
    plain["lora"] = node("LoraLoaderModelOnly", model=["load", 0], lora_name=saved_as(run), strength_model=1.0)
    plain["sample"]["inputs"]["model"] = ["lora", 0]
    assert torch.equal(pictures(page, page.run(plain)), drawn), "the file does what the MODEL does"
    plain["sample"]["inputs"]["model"] = ["load", 0]
    page.free()
    assert torch.equal(pictures(page, page.run(plain)), before), "the loaded MODEL is as it was"


def test_what_cannot_be_balanced_is_refused_in_a_sentence(page):
    with pytest.raises(NodeFailed, match="has the strength 0.5: a stack is balanced at 1"):
        page.run(balancing((1.0, 0.5)))
    with pytest.raises(NodeFailed, match="There is nothing to balance"):
        page.run(balancing((1.0, 0.0)))
    below = balancing(model="apply")
    below["apply"] = node("UnlearnApply", model=["load", 0], clip=["load", 1], stack=["file0", 0], any_base=False)
    with pytest.raises(NodeFailed, match="the MODEL has deltas on it already. Wire the one from the loader"):
        page.run(below)
