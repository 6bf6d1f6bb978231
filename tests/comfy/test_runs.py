"""A run as the page lives through it, in the newest ComfyUI: events, memory, and the same delta as elsewhere."""

import json
import math
import re
import sys

import pytest
import torch

pytest.importorskip("aiohttp", reason="needs requirements/comfy.txt")

from tests import few
from tests.comfy.client import NodeFailed
from tests.comfy.server import Server
from tests.comfy.sources import NEWEST
from tests.comfy.workflows import (
    DEMO,
    QUICK,
    TRAINED,
    forgetting,
    of_kind,
    own_events,
    pictures,
    reduced,
    saved_as,
    shipped,
    text_to_image,
)
from unlearn_core import load
from unlearn_core.cli.main import main as command_line
from unlearn_core.demo.recognition import CHECKPOINT

pytestmark = [pytest.mark.full, pytest.mark.parametrize("comfy", [NEWEST], indirect=True)]

PHASES = ["sampling", "choosing", "before", "replay", "training", "after", "done"]
GROWN = 0.05
"""Part by which the server may hold more memory after one more run."""


@pytest.mark.usefixtures("few_pictures")
def test_events_of_a_run_that_trains(page):
    run = page.run(forgetting(DEMO, "bus", **TRAINED))
    bar = [e.data for e in run.events if e.type == "progress" and e.data["node"] == "forget"]
    values = [p["value"] for p in bar]
    assert len(values) > 10 and all(a < b for a, b in zip(values, values[1:], strict=False))
    assert values[-1] == bar[0]["max"] > values[-2]
    assert run.previews > 0

    own = own_events(run)
    assert list(dict.fromkeys(e["phase"] for e in own)) == PHASES
    fractions = [e["fraction"] for e in own]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0 > fractions[-2]
    losses = [e["losses"] for e in own if e["losses"]]
    assert len(losses) == TRAINED["steps"]
    assert all(set(values) == {"forget", "keep", "drift"} for values in losses)
    assert all(math.isfinite(v) for values in losses for v in values.values())


@pytest.mark.usefixtures("few_pictures")
def test_at_another_strength_the_pictures_are_drawn_with_it(page):
    run = page.run(forgetting(DEMO, "guitar", anchor="truck", resolution=64, sampling_steps=2, strength=0.5))
    phases = list(dict.fromkeys(e["phase"] for e in own_events(run)))
    assert phases[-3:] == ["after", "drawing", "done"]


@pytest.mark.usefixtures("few_pictures")
@pytest.mark.parametrize("name", ["Forget three concepts", "Before and after"])
def test_the_other_shipped_workflows_run(page, name):
    prompt = shipped(name, page.object_info())
    for key in of_kind(prompt, "UnlearnForgetConcept"):
        target = prompt[key]["inputs"]["concept"]
        prompt[key]["inputs"] |= {"anchor": "flat" if target == "ink" else "dog", "resolution": 64, "quality": "quick"}
    run = page.run(prompt)
    for key in of_kind(prompt, "PreviewImage"):
        drawn = pictures(page, run, key)
        assert drawn.std() > 0.05 and drawn.shape[-1] >= 128


@pytest.mark.usefixtures("few_pictures")
def test_memory_comes_back(comfy, page):
    held = []
    # the first run of a process also fills the memory of libraries for good
    for seed in range(3):
        page.run(forgetting(DEMO, "fox", **TRAINED, seed=seed))
        page.free()
        page.run(text_to_image(DEMO, "a fox", 128))
        held.append(comfy.memory())
    assert held[-1] < held[0] * (1 + GROWN), held


@pytest.mark.parametrize(
    "concept, wish",
    [("rabbit", {**TRAINED, "steps": 12, "sampling_steps": 4}), ("truck", {})],
    ids=["trained", "as it is"],
)
def test_the_command_line_makes_the_same_choices_and_the_same_delta(comfy, page, tmp_path, concept, wish):
    wish = {name: value for name, value in wish.items() if name not in ("anchor", "resolution")}
    with reduced(page), few.reduced("unlearn_core"):
        run = page.run(forgetting(DEMO, concept, **wish))
        theirs = load(comfy.models / "loras" / saved_as(run))
        arguments = ["forget", "--checkpoint", str(CHECKPOINT), "--concept", concept, "--device", "cpu"]
        arguments += [text for name, value in wish.items() for text in ("--set", f"{name}={value}")]
        files = {"--out": tmp_path / "delta.safetensors", "--report": tmp_path / "report.json"}
        assert command_line([*arguments, *(str(x) for pair in files.items() for x in pair)]) == 0

    ours = load(files["--out"])
    assert (ours.info.anchor, ours.info.prompts) == (theirs.info.anchor, theirs.info.prompts)
    assert ours.info.base_fingerprint == theirs.info.base_fingerprint
    here, there = (torch.cat([d.factors[k].matrix().flatten() for k in sorted(d.factors)]) for d in (ours, theirs))
    assert ours.factors.keys() == theirs.factors.keys()
    assert torch.nn.functional.cosine_similarity(here, there, 0) >= 0.99
    for name in ("forgotten_before", "forgotten_after", "preserved_before", "preserved_after"):
        assert abs(ours.info.check[name] - theirs.info.check[name]) <= 0.02, name
    cached = (comfy.folder / "user" / "unlearn_cache").glob("*.json")
    reports = [r for r in (json.loads(f.read_text("utf-8")) for f in cached) if r["concept"] == concept]
    report = json.loads(files["--report"].read_text("utf-8"))
    assert report["neighbours"] in [r["neighbours"] for r in reports]


def test_without_peft_the_closed_form_works_and_training_says_what_to_install(comfy, tmp_path):
    hidden = tmp_path / "hidden" / "peft"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ImportError('No module named peft')\n")
    with (
        Server(comfy.version, tmp_path / "base", {"PYTHONPATH": str(hidden.parent)}) as server,
        server.client() as page,
        reduced(page),
    ):
        run = page.run(forgetting(DEMO, "bus", anchor="truck", resolution=64))
        assert "How: at once" in run.outputs["forget"]["text"][0]
        begun = len(page.events)
        with pytest.raises(
            NodeFailed, match=f'install it with: "{re.escape(sys.executable)}" -m pip install --no-deps'
        ):
            page.run(forgetting(DEMO, "cat", **TRAINED))
        assert not [e for e in page.events[begun:] if e.type == "unlearn.progress"], "said before any work"
        quick = page.run(forgetting(DEMO, "cat", **QUICK))
        assert "How: at once" in quick.outputs["forget"]["text"][0]
