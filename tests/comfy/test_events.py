"""To whom what is said of a run goes: to the page that queued it, with the run's id, and to no page where none did."""

import time

import pytest

pytest.importorskip("aiohttp", reason="needs requirements/comfy.txt")

from tests.comfy.sources import NEWEST
from tests.comfy.workflows import DEMO, QUICK, forgetting

pytestmark = [pytest.mark.full, pytest.mark.parametrize("comfy", [NEWEST], indirect=True)]


def ours(page):
    """What our nodes have told a page."""
    return [event for event in page.events if event.type.startswith("unlearn.")]


def test_each_event_names_its_run_and_goes_to_its_page_alone(comfy, page):
    with comfy.client() as other:
        run = page.run(forgetting(DEMO, "cats, frogs", **QUICK))
        told = [event for event in run.events if event.type.startswith("unlearn.")]
        assert {event.type for event in told} == {"unlearn.note", "unlearn.progress"}
        assert {event.data["prompt_id"] for event in told} == {run.prompt_id}
        assert ours(other) == []


def test_a_script_without_a_page_moves_no_panel(comfy, page):
    """ComfyUI says nothing of its end to any page: a panel that follows it would stay at 100 %."""
    prompt = page.post("/prompt", {"prompt": forgetting(DEMO, "trucks, pears", **QUICK)})["prompt_id"]
    deadline = time.monotonic() + 300
    while not (done := page.history(prompt)) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert done["status"]["status_str"] == "success", done
    # what was sent before this is here before it
    page.run(forgetting(DEMO, "trucks, pears", **QUICK))
    assert [event for event in ours(page) if event.data.get("prompt_id") in (None, prompt)] == []
