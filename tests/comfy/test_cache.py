"""What is remembered between runs: by what had an effect, and not by what had none."""

import shutil

import pytest
import torch

pytest.importorskip("aiohttp", reason="needs requirements/comfy.txt")

from tests.comfy.client import Interrupted
from tests.comfy.sources import NEWEST
from tests.comfy.workflows import DEMO, QUICK, TRAINED, forgetting, own_events, pictures, saved_as
from unlearn_core import load

pytestmark = [pytest.mark.full, pytest.mark.parametrize("comfy", [NEWEST], indirect=True)]

SHOWN, DRAWN = {"done"}, {"drawing", "done"}


def phases(run):
    """Phases that a run went through."""
    return {e["phase"] for e in own_events(run)}


def delta_of(comfy, run):
    """The delta that a run saved."""
    return load(comfy.models / "loras" / saved_as(run))


def test_a_training_setting_after_an_untrained_run_does_not_run_again(comfy, page):
    first = page.run(forgetting(DEMO, "apple", **QUICK))
    assert "editing" in phases(first)
    other = page.run(forgetting(DEMO, "apple", **QUICK, steps=20, learning_rate=1e-3, layers="cross"))
    assert phases(other) == SHOWN and "From the cache" in other.outputs["forget"]["text"][0]
    assert torch.equal(pictures(page, other), pictures(page, first))
    config = delta_of(comfy, other).info.config
    assert (config["steps"], config["layers"]) == (20, "cross"), "the file says what was asked for"

    edited = page.run(forgetting(DEMO, "apple", **QUICK, rank=4))
    assert "editing" in phases(edited)


@pytest.mark.usefixtures("few_pictures")
def test_a_trained_run_is_remembered_by_its_training_settings_too(comfy, page):
    first = page.run(forgetting(DEMO, "rabbit", **TRAINED))
    assert "training" in phases(first)
    page.free()
    again = page.run(forgetting(DEMO, "rabbit", **TRAINED))
    assert phases(again) == SHOWN and torch.equal(pictures(page, again), pictures(page, first))
    longer = page.run(forgetting(DEMO, "rabbit", **{**TRAINED, "steps": 4}))
    assert "training" in phases(longer)


def test_a_word_that_was_added_to_ones_own_list_is_seen_by_the_next_run(comfy, page):
    wish, own = forgetting(DEMO, "turtle", **QUICK), comfy.models / "unlearn" / "vocabulary.txt"
    assert own_events(page.run(wish)) and not own_events(page.run(wish)), "ComfyUI itself has the result"
    own.parent.mkdir(exist_ok=True)
    try:
        for text in ("zorbflux\n", "zorbflux\nquazzle, animal\n"):
            own.write_text(text, "utf-8")
            assert own_events(page.run(wish)) and not own_events(page.run(wish))
    finally:
        own.unlink(missing_ok=True)


@pytest.mark.usefixtures("few_pictures")
def test_an_interrupted_run_goes_on_by_itself_to_the_same_delta(comfy, page):
    cache, wish = comfy.folder / "user" / "unlearn_cache", forgetting(DEMO, "dog", **{**TRAINED, "anchor": "cat"})
    running = page.queue(wish)
    page.until(lambda e: e.type == "unlearn.progress" and e.data["phase"] == "training")
    page.interrupt()
    with pytest.raises(Interrupted):
        page.wait(running)
    assert any((cache / "unfinished").rglob("*.part"))
    run = page.run(wish)
    assert any("going on with a run that was stopped" in e["message"] for e in own_events(run))
    assert not (cache / "unfinished").exists()
    ours = delta_of(comfy, run)
    shutil.rmtree(cache)
    page.free()
    assert delta_of(comfy, page.run(wish)).content_hash() == ours.content_hash()


def shown(page, run):
    """The pictures on a Forget Concept's slider, as they were sent."""
    return [page.view(run.outputs["forget"][f"unlearn_{when}"][0]) for when in ("before", "after")]


def test_pictures_are_drawn_once_for_each_strength_and_vae(page):
    first = page.run(forgetting(DEMO, "strawberry", **QUICK))
    half = page.run(forgetting(DEMO, "strawberry", **QUICK, strength=0.5))
    assert phases(half) == DRAWN
    page.free()
    again = page.run(forgetting(DEMO, "strawberry", **QUICK))
    assert phases(again) == SHOWN and shown(page, again) == shown(page, first) != shown(page, half)
    rough = forgetting(DEMO, "strawberry", **QUICK)
    del rough["forget"]["inputs"]["vae"]
    without = page.run(rough)
    assert phases(without) == DRAWN and shown(page, without) != shown(page, first)


@pytest.mark.usefixtures("few_pictures")
def test_a_checked_run_shows_its_own_pictures_also_from_the_cache(page):
    wish = {"anchor": "truck", "resolution": 64, "sampling_steps": 2}
    first = page.run(forgetting(DEMO, "bus", **wish))
    assert "drawing" not in phases(first)
    page.free()
    again = page.run(forgetting(DEMO, "bus", **wish))
    assert phases(again) == SHOWN and shown(page, again) == shown(page, first)
