"""Weights that ComfyUI holds packed or patches only in a pass are read as they are used, and are left as they were."""

import pytest

from tests.comfy.sources import NEWEST, seen_inside

pytestmark = pytest.mark.full

FAMILIES = ("unet", "qwen_image", "auraflow")
WAYS = ("lazy", "fp8", "comfy_quant", "comfy_quant, lazy")


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What the script saw inside the newest ComfyUI."""
    pytest.importorskip("aiohttp", reason="needs requirements/comfy.txt")
    return seen_inside(NEWEST, "precisions.py", tmp_path_factory.mktemp("precisions"))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("family", FAMILIES)
def test_two_requests_in_a_row_are_those_of_the_numbers_in_full_precision(seen, family, way):
    assert_right(seen[family][way])
    assert seen[family][way]["lazy"] == ("lazy" in way)


@pytest.mark.parametrize("way", ["gguf", "paged"])
def test_layers_and_patchers_of_other_kinds_too(seen, way):
    assert_right(seen["unet"][way])


def assert_right(row):
    """Forgotten in closed form, all keys matched, the MODEL the same bytes, the deltas those of the full precision."""
    assert row["way"].startswith("at once") and row["matched"] and row["same"], row
    assert len(row["cosines"]) == 2 and min(row["cosines"]) >= 0.9999, row


@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_is_known_again_in_float8(seen, family):
    assert seen[family]["fp8"]["known"]


def test_a_file_in_scaled_float8_is_known_and_one_in_blocks_is_another(seen):
    assert seen["qwen_image"]["comfy_quant"]["known"]
    assert not seen["unet"]["comfy_quant"]["known"]


def test_bytes_that_nobody_unpacks_are_refused_before_anything_runs(seen):
    assert "packed in a form that is not known" in seen["unet"]["refused"] and "Bytes" in seen["unet"]["refused"]
