"""Real ComfyUI starts with this pack in it, and draws with stock nodes."""

import io
import shutil

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("aiohttp", reason="needs requirements/comfy.txt")

from tests.comfy.client import Interrupted, NodeFailed, Rejected
from tests.comfy.sources import ROOT
from tests.comfy.workflows import checkpoint_loader, node, text_to_image

pytestmark = pytest.mark.slow

DEMO = ROOT / "assets" / "demo" / "demo.safetensors"


def picture(page, run, output="save"):
    """The one picture of a run as numbers 0..255, `[H, W, 3]`."""
    (address,) = run.images(output)
    return np.asarray(Image.open(io.BytesIO(page.view(address))).convert("RGB")).astype(float)


def check(drawn, side):
    """Neither empty nor broken; what is not finite is saved as black."""
    assert drawn.shape == (side, side, 3)
    assert drawn.std() > 0.5 and 5 < drawn.mean() < 250


def test_the_server_is_of_the_version_and_knows_the_packs_nodes(comfy, page):
    assert page.get("/system_stats")["system"]["comfyui_version"] == comfy.version
    nodes = page.object_info()
    assert "KSampler" in nodes
    assert any(name.startswith("Unlearn") for name in nodes), comfy.log_tail()


KINDS = {"sd15": "EPS", "sd2": "EPS", "sd2-v": "V_PREDICTION", "sdxl": "EPS"}


@pytest.mark.parametrize("kind", KINDS)
def test_stock_nodes_draw_with_a_tiny_checkpoint(comfy, page, checkpoint, kind):
    before = len(comfy.log_text())
    run = page.run(text_to_image(checkpoint_loader(checkpoint(kind))))
    check(picture(page, run), 64)
    assert {"execution_start", "progress", "execution_success"} <= {e.type for e in run.events}
    assert f"model_type {KINDS[kind]}\n" in comfy.log_text()[before:]
    page.free()


def test_stock_nodes_draw_with_a_tiny_flux(comfy, page, checkpoint):
    workflow = text_to_image(checkpoint_loader(checkpoint("flux")), cfg=1.0, scheduler="simple")
    workflow["words"] = checkpoint_loader(checkpoint("sd15"))
    for name in ("yes", "no"):
        workflow[name]["inputs"]["clip"] = ["words", 1]
    workflow["empty"] = node("EmptySD3LatentImage", width=64, height=64, batch_size=1)
    check(picture(page, page.run(workflow)), 64)
    assert "model_type FLUX\n" in comfy.log_text()
    page.free()


def test_the_packs_loader_draws_with_the_demo_checkpoint(page):
    run = page.run(text_to_image(node("UnlearnLoadDemoModel"), "a flat banana", side=128, steps=12))
    check(picture(page, run), 128)


def test_stock_detection_does_not_know_the_demo_checkpoint(comfy, page):
    shutil.copy(DEMO, comfy.models / "checkpoints" / "demo.safetensors")
    with pytest.raises(NodeFailed, match="Could not detect model type"):
        page.run(text_to_image(checkpoint_loader("demo.safetensors")))


def test_an_interrupt_ends_a_run_and_the_next_one_works(page, checkpoint):
    loader = checkpoint_loader(checkpoint("sd15"))
    long = page.queue(text_to_image(loader, steps=1000))
    page.until(lambda e: e.type == "progress" and e.of(long))
    page.interrupt()
    with pytest.raises(Interrupted, match="sample"):
        page.wait(long)
    assert picture(page, page.run(text_to_image(loader))).std() > 1


def test_an_invalid_workflow_is_rejected(page):
    with pytest.raises(Rejected, match="ckpt_name"):
        page.queue(text_to_image(checkpoint_loader("not there.ckpt")))


def test_an_uploaded_picture_comes_back(page):
    data = io.BytesIO()
    Image.new("RGB", (8, 8), (10, 200, 30)).save(data, "PNG")
    name = page.upload("one colour.png", data.getvalue())
    workflow = {
        "load": node("LoadImage", image=name),
        "save": node("SaveImage", images=["load", 0], filename_prefix="up"),
    }
    assert (picture(page, page.run(workflow)) == (10, 200, 30)).all()
