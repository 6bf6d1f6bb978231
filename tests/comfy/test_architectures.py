"""Forgetting on the layouts of SD1.5, SD2, SDXL and Flux, and the checkpoint to the bit as it was, whatever happens."""

import json
import random
import re

import pytest

pytest.importorskip("aiohttp", reason="needs requirements/comfy.txt")

from tests.comfy.client import Interrupted, NodeFailed
from tests.comfy.sources import NEWEST, ROOT
from tests.comfy.workflows import QUICK, TRAINED, forget, node, own_events, reduced, saved_as
from unlearn_core import load
from unlearn_core.delta.format import tensors

pytestmark = [
    pytest.mark.full,
    pytest.mark.usefixtures("few_prompts"),
    pytest.mark.parametrize("comfy", [NEWEST], indirect=True),
]

KINDS = {
    "sd15": ("sd1", "epsilon", "attn2_to_[kv]", True),
    "sd2": ("sd2", "epsilon", "attn2_to_[kv]", False),
    "sd2-v": ("sd2", "v_prediction", "attn2_to_[kv]", False),
    "sdxl": ("sdxl", "epsilon", "attn2_to_[kv]", False),
    "flux-narrow": ("flux", "flow", r"\.(txt_in|vector_in\.out_layer)", False),
    "flux-narrow trained": ("flux", "flow", r"double_blocks\.\d\.txt_attn\.qkv", True),
}
"""{tiny checkpoint: (architecture and prediction type in its deltas, names of the layers that change, if it trains)}.

Other families are in test_families.py.
"""
SHORT = {"sampling_steps": 1, "resolution": 32}
"""These networks are as wide as real ones: what is seen at 4 by 4 latents costs an eighth of 8 by 8."""


@pytest.fixture
def few_prompts(page):
    """Few prompts of each listed word: text encoders as wide as real ones take seconds for a hundred."""
    with reduced(page, listed_prompts=(1, 1)):
        yield


def loaded(name, file):
    """The nodes that load a checkpoint, and the links to its MODEL and CLIP."""
    kind = name.split()[0]
    nodes = {"load": node("ProbeLoader", ckpt_name=file(kind), words_file=str(ROOT / "tests/comfy/few_words.json"))}
    if not name.startswith("flux"):
        return nodes, ["load", 0], ["load", 1]
    nodes["words"] = node("ProbeLoader", ckpt_name=file("sd15"), words_file="")
    return nodes, ["load", 0], ["words", 1]


def forgetting(name, file, target="cat", broken_at=None, **settings):
    """Load, forget, save the delta; the network raises at its call number `broken_at`."""
    nodes, model, clip = loaded(name, file)
    if broken_at:
        nodes["break"] = node("ProbeBreak", model=model, at=broken_at)
        model = ["break", 0]
    wish = {**(TRAINED if KINDS[name][-1] else QUICK), **SHORT, **settings}
    nodes |= forget("forget", target, {"model": model, "clip": clip, "vae": ["load", 2]}, **wish)
    nodes["delta"] = node("UnlearnSaveDelta", stack=["forget", 1], name=f"{name} {target}")
    return nodes


def look(page, nodes, model, patched):
    """What a MODEL of these nodes is to the last bit."""
    run = page.run({**nodes, "look": node("ProbeModel", model=model, patched=patched)})
    return json.loads(run.outputs["look"]["text"][0])


@pytest.mark.parametrize("name", KINDS)
def test_forgets_and_leaves_the_checkpoint_as_it_was(comfy, page, checkpoint, name):
    nodes, model, _ = loaded(name, checkpoint)
    base = look(page, nodes, model, patched=False)
    assert base["requires_grad"] == base["hooks"] == base["own forwards"] == 0
    written = len(comfy.log_text())

    file = saved_as(page.run(forgetting(name, checkpoint)))
    delta = load(comfy.models / "loras" / file)
    architecture, prediction, layer, trains = KINDS[name]
    assert (delta.info.architecture, delta.info.prediction_type) == (architecture, prediction)
    assert delta.factors and all(re.search(layer + "$", key) for key in delta.factors)
    assert all(f.up.norm() > 0 for f in delta.factors.values()) and bool(delta.info.steps) == trains
    forgotten = look(page, forgetting(name, checkpoint), ["forget", 0], patched=True)

    stock = {**nodes, "lora": node("LoraLoaderModelOnly", model=model, lora_name=file, strength_model=1.0)}
    assert look(page, stock, ["lora", 0], patched=True) == forgotten
    assert forgotten["weights"] != base["weights"]
    log = comfy.log_text()[written:]
    assert "lora key not loaded" not in log and "NOT LOADED" not in log and len(tensors(delta)) > 0
    assert look(page, nodes, model, patched=False) == base
    page.free()


@pytest.mark.parametrize("name", [name for name, (*_, trains) in KINDS.items() if trains])
def test_a_training_that_is_stopped_or_breaks_leaves_the_checkpoint_as_it_was(page, checkpoint, name):
    nodes, model, _ = loaded(name, checkpoint)
    base = look(page, nodes, model, patched=False)
    numbers = random.Random(name)
    run = page.run(forgetting(name, checkpoint, seed=1))
    # the last events come too late to be answered before the end
    events = len(own_events(run)) * 3 // 4
    at = numbers.randrange(1, events)
    since, started = len(page.events), page.queue(forgetting(name, checkpoint, seed=2))
    seen = iter(range(at))
    page.until(lambda e: e.type == "unlearn.progress" and next(seen, None) is None, since=since)
    page.interrupt()
    with pytest.raises(Interrupted):
        page.wait(started)
    assert look(page, nodes, model, patched=False) == base, f"interrupted after event {at} of {events}"

    # a call of the network answers for many rows, and so for some events
    at = numbers.randrange(1, events // 3)
    with pytest.raises(NodeFailed, match="broken on purpose"):
        page.run(forgetting(name, checkpoint, seed=2, broken_at=at))
    assert look(page, nodes, model, patched=False) == base, f"broken at call {at}"

    page.run(forgetting(name, checkpoint, seed=2))
    assert look(page, nodes, model, patched=False) == base
    page.free()
