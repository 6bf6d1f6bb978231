"""The package: its public names, its one version, and what it asks of an environment."""

import importlib
import importlib.metadata
import importlib.util
import json
import re
from pathlib import Path

import pytest

import unlearn_core
from unlearn_core.errors import UnlearnError
from unlearn_core.version import find_version

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = (ROOT / "pyproject.toml").read_text("utf-8")
PUBLIC = """
    forget Result ForgetConfig settings read_requests Delta DeltaInfo Stack Entry load save StandaloneModel HostModel
    Conditioning Progress StepReport UnlearnError BadSetting BadDelta BadCheckpoint TrainingFailed Cancelled __version__
"""

# The public names


def test_all_public_names_are_there():
    assert set(unlearn_core.__all__) == set(PUBLIC.split())
    assert [name for name in PUBLIC.split() if not hasattr(unlearn_core, name)] == []
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = unlearn_core.nothing


def test_the_model_and_the_command_are_found_by_either_name():
    from unlearn_core import StandaloneModel

    assert StandaloneModel is importlib.import_module("unlearn_core.standalone").StandaloneModel
    assert importlib.import_module("unlearn_core.cli.main").main is importlib.import_module("unlearn_core.cli").main


def test_missing_packages_are_named(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "diffusers" else find(name))
    with pytest.raises(UnlearnError, match="without diffusers: pip install diffusers"):
        unlearn_core.StandaloneModel(ROOT / "assets/demo/demo.safetensors")


def test_demo_without_its_model_says_what_to_do(monkeypatch, tmp_path, capsys):
    from unlearn_core.cli.main import main
    from unlearn_core.demo import recognition

    monkeypatch.setattr(recognition, "CHECKPOINT", tmp_path / "demo.safetensors")
    assert main(["demo", "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "clone the repository and run 'python install.py demo' there" in said
    assert not (tmp_path / "out").exists()


# One version


def test_versions_agree():
    written = re.search(r'^version = "(.+)"$', PYPROJECT, re.MULTILINE)[1]
    newest = re.search(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)[1]
    assert unlearn_core.__version__ == written == newest


def test_version_of_this_copy_of_the_installed_package_or_of_neither(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: {"unlearn-deltas": "9.9.9"}[name])
    assert find_version(ROOT) == unlearn_core.__version__, "another one that is installed does not count"
    assert find_version(tmp_path) == "9.9.9"
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "another"\nversion = "3.0"\n', "utf-8")
    assert find_version(tmp_path) == "9.9.9", "another package's file beside ours"

    def none(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", none)
    assert find_version(tmp_path) == "unknown"


# What hosts and pip install


def listed(pattern: str) -> list[str]:
    """A list of packages in pyproject.toml."""
    return json.loads(re.search(rf"^{pattern} = (\[.+\])$", PYPROJECT, re.MULTILINE)[1])


def test_no_requirement_forbids_a_newer_version():
    wanted = [*listed("dependencies"), *listed("standalone")]
    assert [w for w in wanted if re.search("[<=~!]", w.replace(">=", ""))] == []
    assert "torch>=2.1" in wanted


def test_comfyuis_manager_installs_only_peft():
    """It reads requirements.txt and never pyproject.toml; all else is there in every ComfyUI."""
    lines = (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["peft>=0.13"]
    assert "peft>=0.13" in listed("dependencies")
