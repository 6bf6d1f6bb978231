"""Sessions on a device to which ComfyUI brings weights, and from which it takes them: inside ComfyUI."""

import pytest

from tests.comfy.sources import NEWEST, seen_inside

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What the script saw inside the newest ComfyUI (20 s)."""
    pytest.importorskip("aiohttp", reason="needs requirements/comfy.txt")
    return seen_inside(NEWEST, "small_card.py", tmp_path_factory.mktemp("user"))


@pytest.mark.parametrize("what", ["pictures", "prompts"])
def test_a_pass_gives_the_same_after_other_work_of_the_session(seen, what):
    assert seen["passes"][what]


def test_a_run_trains_there_and_leaves_the_model_as_it_was(seen):
    _, same = seen["run"]
    assert same


def test_layers_take_their_weights_also_after_the_sessions(seen):
    assert seen["sound"]
