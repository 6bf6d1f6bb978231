"""Every family of image models that ComfyUI draws with, in its own classes: what is edited, and nothing else touched.

One process for all of them: about a minute of one core.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.comfy.sources import NEWEST, ON, tree

pytestmark = [pytest.mark.full, pytest.mark.timeout(1800)]

KEYS_AND_VALUES = ("cross_attn.k_proj", "cross_attn.v_proj")
EDITED = {
    "sd3": {"context_embedder", "y_embedder.mlp.2"},
    "flux1": {"txt_in", "vector_in.out_layer"},
    "flux2_klein": {"txt_in"},
    "chroma": {"txt_in"},
    "qwen_image": {"txt_in"},
    "z_image": {"cap_embedder.1"},
    "lumina2": {"cap_embedder.1"},
    "krea2": {"txtmlp.3"},
    "anima": {f"blocks.0.{name}" for name in KEYS_AND_VALUES},
    "auraflow": {"cond_seq_linear"},
    "pixart_sigma": {f"blocks.{i}.cross_attn.kv_linear" for i in (0, 1)},
    "hidream": {*(f"caption_projection.{i}.linear" for i in range(4)), "p_embedder.pooled_embedder.linear_2"},
    "hunyuan_image": {"txt_in.c_embedder.out_layer", "txt_in.input_embedder"},
    "omnigen2": {"time_caption_embed.caption_embedder.1"},
    "ernie": {"text_proj"},
    "cosmos_predict2": {f"blocks.0.{name}" for name in KEYS_AND_VALUES},
    "wan_t2v": {"blocks.0.cross_attn.k", "blocks.0.cross_attn.v"},
}
"""{family: the layers that a quick request changes}; SD1.5, SD2 and SDXL are in test_architectures.py."""
TOLD_APART = {"sd3": "SD3", "flux1": "Flux", "flux2_klein": "Flux2", "chroma": "Chroma", "qwen_image": "QwenImage"}
TOLD_APART |= {"lumina2": "Lumina2", "krea2": "Krea2", "anima": "Anima", "pixart_sigma": "PixArtSigma"}
TOLD_APART |= {"hidream": "HiDream", "hunyuan_image": "HunyuanImage21", "omnigen2": "Omnigen2", "ernie": "ErnieImage"}
TOLD_APART |= {"cosmos_predict2": "CosmosT2IPredict2", "wan_t2v": "WAN21_T2V"}
"""{family: the class that ComfyUI itself chooses for these weights}; others are told by a size."""
EPSILON = {"pixart_sigma"}
BESIDE = "reads a picture beside the noise, as inpainting, editing and video models do: forget on one of its family"
REFUSED = {"flux_fill": BESIDE, "wan_i2v": BESIDE, "hunyuan_refiner": BESIDE, "ace_step": "makes no pictures"}


@pytest.fixture(scope="module")
def seen():
    """{family: what the script saw}, inside the newest ComfyUI."""
    pytest.importorskip("aiohttp", reason="needs requirements/comfy.txt")
    here = Path(__file__).parent
    command = [sys.executable, here / "boot.py", tree(NEWEST), here / "families.py", *ON]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"family"')]
    return {row["family"]: row for row in rows}


@pytest.mark.parametrize("family", EDITED)
def test_forgets_in_closed_form_and_leaves_the_model_as_it_was(seen, family):
    row = seen[family]
    assert row.get("error") is None and row["way"].startswith("at once")
    assert set(row["layers"]) == EDITED[family]
    assert row["matched"] == [len(EDITED[family])] * 2, "ComfyUI's LoRA loader finds every layer"
    assert row["differs"], "with the delta the MODEL answers something else"
    assert row["same"] and row["same without"], "without it the MODEL is the same to the bit"
    assert row["same interrupted"] and row["same broken"]
    assert row["rows"] < 1e-5, "a prompt beside a longer one is answered as it is alone"
    assert row["preview"] == [2, 3, row["side"], row["side"]]
    assert row["prediction"] == ("epsilon" if family in EPSILON else "flow")
    assert row["detected"] == TOLD_APART.get(family, row["detected"])


@pytest.mark.parametrize("family", REFUSED)
def test_what_draws_from_more_than_text_or_no_pictures_is_refused_in_a_true_sentence(seen, family):
    assert REFUSED[family] in seen[family]["refused"]


def test_nothing_else_was_tried(seen):
    assert set(seen) == {*EDITED, *REFUSED}
