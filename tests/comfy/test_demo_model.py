"""The pack's loader of the demo checkpoint and its cache, inside each ComfyUI."""

import pytest

from tests.comfy.sources import NEWEST, SOURCES, seen_inside

pytestmark = pytest.mark.full


@pytest.fixture(scope="module", params=[*SOURCES, "lazy"])
def seen(request, tmp_path_factory):
    """What the script saw inside a ComfyUI of a version, and with the layers of dynamic VRAM (10 s)."""
    pytest.importorskip("aiohttp", reason="needs requirements/comfy.txt")
    lazy, folder = request.param == "lazy", tmp_path_factory.mktemp("user")
    return seen_inside(NEWEST if lazy else request.param, "inside.py", folder, lazy=lazy)


def test_comfyui_draws_the_pictures_of_the_standalone_model(seen):
    for prompt, (mean, largest, contrast) in seen["pictures"].items():
        assert mean < 0.01 and largest < 0.5, f"of 255, for {prompt}"
        assert contrast > 0.05, f"an empty picture for {prompt}"


def test_all_its_numbers_are_float32_and_written(seen):
    assert seen["types"] == dict.fromkeys(("model", "clip", "vae"), ["torch.float32"])
    matrix = seen["projection"]
    assert matrix == [[float(i == j) for j in range(len(matrix))] for i in range(len(matrix))]


def test_a_copy_without_dynamic_vram_has_the_numbers_that_its_layers_are_made_for(seen):
    assert seen["whole"] == ["torch.float32"]


def test_what_comfyui_has_moved_during_a_session_stays_where_it_is(seen):
    assert seen["aliases"] == [True, True, "meta"]


def test_the_cache_keeps_to_its_limit_and_to_what_was_used_last(seen):
    kept = ("delta0", "delta4", "delta5")
    assert seen["cache"] == sorted(name + ending for name in kept for ending in (".json", ".safetensors"))


def test_a_limit_that_is_no_number_is_the_usual_one(seen):
    usual = 512 * 2**20
    assert seen["limits"] == {"512MB": usual, "": usual, "nan": usual, "inf": usual, "0": 0, "1.5": 1.5 * 2**20}
