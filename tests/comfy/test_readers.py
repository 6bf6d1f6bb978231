"""One delta file in ComfyUI's, diffusers' and the core's hands: no key is lost, and all three compute the same."""

import pytest

from tests.comfy.sources import NEWEST, seen_inside

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What the script saw inside the newest ComfyUI."""
    pytest.importorskip("aiohttp", reason="needs requirements/comfy.txt")
    folder = tmp_path_factory.mktemp("deltas")
    return seen_inside(NEWEST, "readers.py", folder)


@pytest.mark.parametrize("architecture", ["sd1", "sd2", "sdxl"])
def test_three_programs_fill_every_layer_and_compute_the_same(seen, architecture):
    row = seen[architecture]
    assert row["layers"] == row["comfyui"] == row["diffusers"] > 15 and row["lost"] == []
    assert row["plain"] < 1e-4
    assert row["effect"] > 1e-2
    assert row["apart"]["comfyui"] < 1e-4 and row["apart"]["diffusers"] < 1e-4, row
