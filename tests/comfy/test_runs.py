"""A run as the page lives through it: events, pictures, memory, stops, restarts, and the same delta as elsewhere."""

import json
import math
import shutil
from contextlib import nullcontext

import pytest
import torch

pytest.importorskip("aiohttp", reason="needs requirements/comfy.txt")

from tests import few
from tests.comfy.client import Interrupted, NodeFailed
from tests.comfy.server import Server
from tests.comfy.workflows import DEMO, QUICK, forgetting, own_events, pictures, reduced, saved_as, text_to_image
from unlearn_core import load
from unlearn_core.cli import main as cli
from unlearn_core.demo.recognition import CHECKPOINT

pytestmark = pytest.mark.slow

FULL = "0.30.0"
PHASES = ["sampling", "choosing", "before", "replay", "training", "after"]
ANSWERED = 2.0
"""Seconds within which an interrupt has to be heard."""
GROWN = 0.05
"""Part by which the server may hold more memory after one more run."""


@pytest.mark.usefixtures("few_pictures")
def test_events_of_a_run(page):
    run = page.run(forgetting(DEMO, "bus", **QUICK))
    bar = [e.data for e in run.events if e.type == "progress" and e.data["node"] == "forget"]
    values = [p["value"] for p in bar]
    assert len(values) > 10 and all(a < b for a, b in zip(values, values[1:], strict=False))
    assert values[-1] <= bar[0]["max"]
    assert run.previews > 0

    own = own_events(run)
    assert {e["node"] for e in own} == {"forget"}
    assert list(dict.fromkeys(e["phase"] for e in own)) == PHASES
    fractions = [e["fraction"] for e in own]
    assert fractions == sorted(fractions) and fractions[0] >= 0 and fractions[-1] <= 1
    losses = [e["losses"] for e in own if e["losses"]]
    assert len(losses) == QUICK["steps"]
    assert all(set(values) == {"forget", "keep", "drift"} for values in losses)
    assert all(math.isfinite(v) for values in losses for v in values.values())


@pytest.mark.usefixtures("few_pictures")
def test_an_interrupt_is_heard_and_leaves_nothing(comfy, page):
    plain = text_to_image(DEMO, "a cat", 128)
    before = pictures(page, page.run(plain))
    cached = sorted((comfy.folder / "user").rglob("unlearn_cache/*"))
    started = page.queue(forgetting(DEMO, "cat", **{**QUICK, "steps": 5000, "learning_rate": 1e-6}))
    page.until(lambda e: e.type == "unlearn.progress" and e.data["losses"])
    asked = len(page.events)
    page.interrupt()
    with pytest.raises(Interrupted):
        page.wait(started)
    first, *_, last = page.events[asked - 1 :]
    heard = next(e for e in page.events[asked:] if e.type == "execution_interrupted")
    assert heard.time - first.time < ANSWERED
    assert sorted((comfy.folder / "user").rglob("unlearn_cache/*")) == cached
    page.free()
    assert torch.equal(pictures(page, page.run(plain)), before)


def test_memory_comes_back(comfy, page):
    held = []
    # the first run of a process also fills the memory of libraries for good
    for seed in range(3):
        page.run(forgetting(DEMO, "fox", **QUICK, seed=seed))
        page.free()
        page.run(text_to_image(DEMO, "a fox", 128))
        held.append(comfy.memory())
    assert held[-1] < held[0] * (1 + GROWN), held


@pytest.mark.usefixtures("few_pictures")
def test_a_restart_does_not_train_again_and_a_new_training_gives_the_same_bytes(comfy, page):
    workflow = forgetting(DEMO, "apple", **QUICK)
    run = page.run(workflow)
    drawn, file = pictures(page, run), comfy.models / "loras" / saved_as(run)
    learned = load(file).factors
    with Server(comfy.version, comfy.folder) as restarted, restarted.client() as other:
        again = other.run(workflow)
        assert own_events(again) == [] and "(from the cache)" in again.outputs["forget"]["text"][0]
        assert torch.equal(pictures(other, again), drawn)

        shutil.rmtree(comfy.folder / "user" / "unlearn_cache")
        other.free()
        with reduced(other):
            trained = other.run(workflow)
        assert own_events(trained) and saved_as(trained) == file.name
        assert torch.equal(pictures(other, trained), drawn)
    (cached,) = (comfy.folder / "user" / "unlearn_cache").glob("*.safetensors")
    for name, factor in load(cached).factors.items():
        assert torch.equal(factor.down, learned[name].down) and torch.equal(factor.up, learned[name].up)


@pytest.mark.parametrize(
    "concept, wish",
    [("rabbit", {"steps": 12, "guard_weight": 0.0, "sampling_steps": 4, "closed_form": False}), ("truck", {})],
    ids=["trained", "as it is"],
)
def test_the_command_line_makes_the_same_choices_and_the_same_delta(comfy, page, tmp_path, concept, wish):
    if comfy.version != FULL and not wish:
        pytest.skip(f"one version is enough: {FULL}")
    there, here = nullcontext(), nullcontext()
    if comfy.version != FULL:
        there, here = reduced(page), few.reduced("unlearn_core")
    with there:
        run = page.run(forgetting(DEMO, concept, **wish))
    theirs = load(comfy.models / "loras" / saved_as(run))
    arguments = ["forget", "--checkpoint", str(CHECKPOINT), "--concept", concept, "--device", "cpu"]
    arguments += [text for name, value in wish.items() for text in ("--set", f"{name}={value}")]
    files = {"--out": tmp_path / "delta.safetensors", "--report": tmp_path / "report.json"}
    with here:
        assert cli.main([*arguments, *(str(x) for pair in files.items() for x in pair)]) == 0

    ours = load(files["--out"])
    assert (ours.info.anchor, ours.info.prompts) == (theirs.info.anchor, theirs.info.prompts)
    assert ours.info.base_fingerprint == theirs.info.base_fingerprint
    here, there = (torch.cat([d.factors[k].matrix().flatten() for k in sorted(d.factors)]) for d in (ours, theirs))
    assert ours.factors.keys() == theirs.factors.keys()
    assert torch.nn.functional.cosine_similarity(here, there, 0) >= 0.99
    for name in ("forgotten_before", "forgotten_after", "kept_before", "kept_after"):
        assert abs(ours.info.judge[name] - theirs.info.judge[name]) <= 0.02, name
    cached = (comfy.folder / "user" / "unlearn_cache").glob("*.json")
    reports = [r for r in (json.loads(f.read_text("utf-8")) for f in cached) if r["concept"] == concept]
    report = json.loads(files["--report"].read_text("utf-8"))
    assert [r["neighbours"] for r in reports] == [report["neighbours"]]


def test_without_peft_the_pack_loads_and_says_what_to_install(comfy, tmp_path):
    hidden = tmp_path / "hidden" / "peft"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ImportError('No module named peft')\n")
    with (
        Server(comfy.version, tmp_path / "base", {"PYTHONPATH": str(hidden.parent)}) as server,
        server.client() as page,
    ):
        assert "UnlearnForgetConcept" in page.object_info()
        with pytest.raises(NodeFailed, match="install it with: pip install --no-deps peft"):
            page.run(forgetting(DEMO, "cat", **QUICK))
        assert pictures(page, page.run(text_to_image(DEMO, "a flat cat", 128))).std() > 0.05
