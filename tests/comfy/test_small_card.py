"""Sessions on a device to which ComfyUI brings weights, and from which it takes them: inside ComfyUI."""

import pytest

from tests.comfy.sources import SOURCES, seen_inside

pytestmark = pytest.mark.full

WAYS = ("no room needed", "as a whole", "in part")


@pytest.fixture(scope="module", params=SOURCES)
def seen(request, tmp_path_factory):
    """What the script saw inside a ComfyUI (40 s)."""
    pytest.importorskip("aiohttp", reason="needs requirements/comfy.txt")
    return seen_inside(request.param, "small_card.py", tmp_path_factory.mktemp("user"))


@pytest.mark.parametrize("what", ["pictures", "prompts"])
@pytest.mark.parametrize("way", WAYS)
def test_a_pass_gives_the_same_after_other_work_of_the_session(seen, way, what):
    left, there, same = seen["passes"][way][what]
    assert there == 1 and same, "the MODEL is there for the pass, with its patches"
    assert left == 1 if way == "no room needed" else left < 1, "the test is about what it says"
    assert left == 0 or way != "as a whole"


def test_a_run_trains_there_to_the_same_delta_and_leaves_the_model_as_it_was(seen):
    hashes, same = zip(*(seen["runs"][way] for way in WAYS), strict=True)
    assert len(set(hashes)) == 1 and all(same)


def test_layers_take_their_weights_also_after_the_sessions(seen):
    assert seen["sound"]
