"""Places are looked at when a button is pressed, before a job begins: the right to write, room, and free names."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.webui.pack import ROOT, load

services, core = load("extension.service"), load("unlearn_core")
DEMO = ROOT / "assets" / "demo" / "demo.safetensors"


@pytest.fixture
def service(tmp_path):
    """On a folder that holds the demo model's delta for the banana; no job may begin."""
    shutil.copy(DEMO.with_name("deltas") / "forget_banana.safetensors", tmp_path)
    there = dict.fromkeys(("folder", "pictures_folder", "checkpoints_folder"), lambda: tmp_path)
    known = {"checkpoint": lambda: DEMO, "checkpoint_name": lambda: "demo", "base": lambda: None}
    known["term_lists"] = tuple
    made = services.Service(SimpleNamespace(**there, **known))
    made.stack_file.put("forget_banana.safetensors")
    made.jobs.start = lambda *_: pytest.fail("a job began")
    return made


ASKED = {
    "forget": lambda service: service.forget({"quality": "quick", "concept": "frog"}),
    "preview": lambda service: service.preview("a cat", 0, 1, 3.0),
    "bake": lambda service: service.bake("copy"),
}


@pytest.mark.parametrize("asked", ASKED)
def test_a_disk_without_room_is_told(asked, service, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=2**20))
    with pytest.raises(core.UnlearnError, match="has 1 MB free, but [0-9]+ MB are needed"):
        ASKED[asked](service)


@pytest.mark.parametrize("asked", ASKED)
def test_a_folder_without_the_right_to_write_is_told(asked, service, monkeypatch):
    monkeypatch.setattr(Path, "touch", lambda *_, **__: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    with pytest.raises(core.UnlearnError, match="Cannot write into"):
        ASKED[asked](service)


def test_a_name_beside_the_copy_that_is_taken_is_told(service, tmp_path):
    (tmp_path / "copy.yaml").write_text("somebody's work")
    with pytest.raises(core.BadSetting, match=r"'copy\.yaml' is in"):
        service.bake("copy")
    assert (tmp_path / "copy.yaml").read_text() == "somebody's work"
