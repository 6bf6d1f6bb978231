"""Save Delta: one delta, all of them or their merge, in folders of the loras folder, and what is shown of it."""

import os

import pytest
import torch
from PIL import Image

pytest.importorskip("aiohttp", reason="needs requirements/comfy.txt")

from tests.comfy.client import Rejected
from tests.comfy.workflows import DEMO, node, of_kind, pictures, shipped, text_to_image
from unlearn_core import Stack, load
from unlearn_core.delta.merge import combine_cat
from unlearn_core.demo.recognition import CHECKPOINT

pytestmark = pytest.mark.full

NAMES = ("banana", "cat")
SHIPPED = {name: CHECKPOINT.with_name("deltas") / f"forget_{name}.safetensors" for name in NAMES}


def saving(strengths=(1.0, 1.0), **values):
    """Two of the pack's own deltas on a stack, and Save Delta as "save"."""
    files = {
        f"file{i}": node("UnlearnLoadDelta", delta=f"demo/{f.name}", strength=s)
        for i, (f, s) in enumerate(zip(SHIPPED.values(), strengths, strict=True))
    }
    stack = node("UnlearnStack", stack_1=["file0", 0], stack_2=["file1", 0])
    return {**files, "stack": stack, "save": node("UnlearnSaveDelta", stack=["stack", 0], **values)}


def saved(comfy, run):
    """{name as it is shown: delta} of what a run has written."""
    names = [line.removeprefix("saved as ") for line in run.outputs["save"]["text"]]
    return {name: load(comfy.models / "loras" / name) for name in names}


def test_the_newest_is_saved_unless_something_else_is_asked_for(comfy, page):
    run = page.run(saving(name="newest"))
    ((name, delta),) = saved(comfy, run).items()
    assert name == "newest.safetensors" and delta.info.concept == "cat"
    assert run.outputs["save"]["unlearn_folder"] == [str(comfy.models / "loras")], "the page says where it is"


def test_each_delta_is_saved_and_names_that_meet_are_numbered(comfy, page):
    first = saved(comfy, page.run(saving(name="all", save="each delta")))
    assert {n: d.info.concept for n, d in first.items()} == {
        "all_banana.safetensors": "banana",
        "all_cat.safetensors": "cat",
    }
    assert [d.content_hash() for d in first.values()] == [load(f).content_hash() for f in SHIPPED.values()]
    kept = (comfy.models / "loras" / "all_banana.safetensors").read_bytes()
    page.run(saving((1.0, 0.5), name="all banana", save="one merged file"))
    assert (comfy.models / "loras" / "all_banana.safetensors").read_bytes() == kept, "never replaced"
    assert load(comfy.models / "loras" / "all_banana_2.safetensors").info.merged


def test_one_merged_file_does_what_the_stack_does(comfy, page):
    ((name, delta),) = saved(comfy, page.run(saving((1.0, 0.5), name="both", save="one merged file"))).items()
    a, b = (load(f) for f in SHIPPED.values())
    wanted = combine_cat(Stack().with_delta(a).with_delta(b, 0.5))
    assert name == "both.safetensors" and delta.content_hash() == wanted.content_hash()
    assert delta.info.concepts == NAMES and [p.strength for p in delta.info.merged] == [1.0, 0.5]


def test_a_name_may_begin_with_a_folder(comfy, page):
    files = saved(comfy, page.run(saving(name="unlearn/deep\\ink.safetensors")))
    assert list(files) == [os.path.join("unlearn", "deep", "ink.safetensors")]
    assert files[os.path.join("unlearn", "deep", "ink.safetensors")].info.concept == "cat"
    files = saved(comfy, page.run(saving(name="unlearn/", save="each delta")))
    assert sorted(map(os.path.basename, files)) == ["forget_banana.safetensors", "forget_cat.safetensors"]
    described = page.object_info("LoraLoaderModelOnly")["LoraLoaderModelOnly"]["input"]["required"]["lora_name"]
    listed = described[0] if isinstance(described[0], list) else described[1]["options"]
    assert set(files) <= set(listed), "every LoRA loader finds them"


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_does_not_lead_out_of_the_folder(comfy, page, tmp_path):
    loras = comfy.models / "loras"
    (loras / "elsewhere").symlink_to(tmp_path, target_is_directory=True)
    (loras / "unplugged").symlink_to(tmp_path / "missing", target_is_directory=True)
    (loras / "taken").write_bytes(b"1")
    for name, why in (
        ("elsewhere/x", "a link to another place"),
        ("unplugged/x", "no folder"),
        ("taken/x", "no folder"),
    ):
        with pytest.raises(Rejected, match=why):
            page.queue(saving(name=name))
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_name_that_a_link_has_is_taken(comfy, page, tmp_path):
    (tmp_path / "moved.safetensors").write_bytes(b"of another disk")
    for name, target in (("moved", "moved.safetensors"), ("lost", "lost.safetensors")):
        (comfy.models / "loras" / f"{name}.safetensors").symlink_to(tmp_path / target)
        assert list(saved(comfy, page.run(saving(name=name)))) == [f"{name}_2.safetensors"]
    assert (tmp_path / "moved.safetensors").read_bytes() == b"of another disk"


def test_a_file_that_was_deleted_is_written_again(comfy, page):
    workflow = saving(name="gone")
    file = comfy.models / "loras" / "gone.safetensors"
    page.run(workflow)
    before = file.stat()
    assert page.run(workflow).outputs.get("save", {}).get("text", ["saved as gone.safetensors"])
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == (before.st_mtime_ns, before.st_ino), "as it was"
    file.unlink()
    assert "gone.safetensors" in saved(comfy, page.run(workflow)) and file.is_file()


def test_a_picture_of_somebody_else_is_left_alone(comfy, page):
    preview = comfy.models / "loras" / "mine.preview.png"
    Image.new("RGB", (10, 10)).save(preview)
    page.run(pictured("mine"))
    assert Image.open(preview).size == (10, 10) and preview.with_name("mine.safetensors").is_file()
    page.run(pictured("ours"))
    assert Image.open(preview.with_name("ours.preview.png")).size == (64, 64)


def pictured(name):
    """The workflow with a picture of 64 x 64 for the preview."""
    workflow = saving(name=name)
    workflow["image"] = node("EmptyImage", width=64, height=64, batch_size=1, color=0)
    workflow["save"]["inputs"]["picture"] = ["image", 0]
    return workflow


def test_an_empty_stack_is_no_error(page):
    off = saving(name="nothing")
    off["stack"]["inputs"] |= {"on_1": False, "on_2": False}
    said = page.run(off).outputs["save"]
    assert said["text"] == ["nothing was saved: there is no delta on the stack"]
    assert said["unlearn_folder"] == [], "all runs of a list have the same names, by which ComfyUI joins them"


def test_the_template_of_three_saves_all_three_as_one(page):
    prompt = shipped("Forget three concepts", page.object_info())
    (save,), (last,) = of_kind(prompt, "UnlearnSaveDelta"), of_kind(prompt, "UnlearnForgetConcept")[-1:]
    assert prompt[save]["inputs"] == {"stack": [last, 1], "name": "unlearn/forget three", "save": "one merged file"}


def test_a_merged_file_in_the_stock_loader_is_the_stack(comfy, page):
    """Bit for bit it need not be: one patch of rank 16 sums in another order than two of rank 8."""
    page.run(saving(name="merged", save="one merged file"))
    stock = text_to_image(DEMO, "a banana", 128)
    plain = pictures(page, page.run(stock))
    stock["sample"]["inputs"]["model"] = ["lora", 0]
    stock["lora"] = node("LoraLoaderModelOnly", model=["load", 0], lora_name="merged.safetensors", strength_model=1.0)
    merged = pictures(page, page.run(stock))
    both = text_to_image(DEMO, "a banana", 128) | saving(name="again")
    both["apply"] = node("UnlearnApply", model=["load", 0], clip=["load", 1], stack=["stack", 0], any_base=False)
    both["sample"]["inputs"]["model"] = ["apply", 0]
    both["save"] = stock["save"]
    stacked = pictures(page, page.run(both))
    assert (merged - stacked).abs().max() < 0.05 < (plain - stacked).abs().max()
    assert torch.isfinite(merged).all()
