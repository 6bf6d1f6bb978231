"""Forge and its relatives by stand-ins: which of them are known, what is asked of them, and what others are told."""

import sys
import types

import pytest

from tests.webui import fake_host
from tests.webui.pack import ROOT, load

core = load("unlearn_core")
DEMO = ROOT / "assets" / "demo" / "demo.safetensors"
NAMES = ("modules", "modules_forge", "backend", "ldm_patched")


@pytest.fixture
def forge(tmp_path):
    """A function that puts a kind of Forge in place and gives (our code for it, what it was asked, `sd_models`)."""
    kept = set(sys.modules)

    def make(kind):
        fake_host.install(tmp_path, {})
        calls = fake_host.install_forge(kind)
        return load("extension.host_forge"), calls, sys.modules["modules.sd_models"]

    yield make
    for name in set(sys.modules) - kept:
        if name.split(".")[0] in NAMES or name.endswith(("extension.host_forge", "extension.host_model")):
            del sys.modules[name]


@pytest.mark.parametrize("kind", ["backend", "ldm_patched"])
def test_a_copy_of_the_chosen_checkpoint_learns(forge, kind):
    code, calls, models = forge(kind)
    models.files["demo"] = types.SimpleNamespace(filename=str(DEMO))
    loading = {"forge_loading_parameters": {"checkpoint_info": models.files["demo"]}} if kind == "backend" else {}
    models.model_data = types.SimpleNamespace(**loading)
    with code.copy() as model:
        assert calls == ["in the main thread", "unloaded"] and model.architecture == "sd1"
    assert calls[-1] == "emptied"


@pytest.mark.parametrize("kind", ["backend", "ldm_patched"])
def test_no_checkpoint_is_a_sentence(forge, kind):
    code, _, models = forge(kind)
    models.model_data = types.SimpleNamespace(**({"forge_loading_parameters": {}} if kind == "backend" else {}))
    with pytest.raises(core.BadCheckpoint, match="No checkpoint is chosen|finds no checkpoint"):
        code.checkpoint()


@pytest.mark.parametrize("missing", ["memory", "function"])
def test_another_relative_is_told_so_before_anybody_presses_start(forge, missing):
    code, _, _ = forge("neither" if missing == "memory" else "ldm_patched")
    if missing == "function":
        del sys.modules["ldm_patched.modules.model_management"].unload_all_models
    with pytest.raises(core.UnlearnError, match="does not know this variant of Forge yet.*use Automatic1111, Forge"):
        code.memory()
