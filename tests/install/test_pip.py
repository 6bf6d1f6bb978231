"""The package as pip installs it into an environment of its own."""

import json
import os
import shutil
import subprocess
import sysconfig
import venv
from pathlib import Path

import pytest

import unlearn_core
from tests.install.calling import ROOT

pytestmark = pytest.mark.full


def sources(folder: Path) -> Path:
    """A copy of what pip reads, so that the repository is not written to."""
    for name in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "unlearn_core", folder / "unlearn_core")
    return folder


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The Python of a new environment with the package in it. torch and pip are seen in the one that tests."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    paths = {"base": str(folder), "platbase": str(folder)}
    Path(sysconfig.get_path("purelib", vars=paths), "shared.pth").write_text(sysconfig.get_path("purelib"), "utf-8")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    where = sources(tmp_path_factory.mktemp("sources"))
    done = subprocess.run([python, "-m", "pip", "install", *options, "."], cwd=where, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [p.name for p in where.iterdir() if p.name == "build"] == [], "it would be taken for a room"
    return python


def test_pip_installs_the_core_alone_and_with_its_data(installed, tmp_path):
    """Together with the next one 20 s on one core, most of it torch's import."""
    program = (
        "import importlib.metadata as m; files = sorted(map(str, m.files('unlearn-deltas'))); "
        "print(*(f for f in files if not f.endswith('.pyc')), sep='\\n')"
    )
    done = subprocess.run([installed, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    files = done.stdout.split()
    rooms = {f.split("/")[0] for f in files if ".dist-info/" not in f}
    assert rooms == {"..", "unlearn_core"}, done.stderr
    ours = [f.relative_to(ROOT).as_posix() for f in (ROOT / "unlearn_core").rglob("*") if f.is_file()]
    assert {f for f in files if f.startswith("unlearn_core/")} == {f for f in ours if "__pycache__" not in f}
    assert {"unlearn_core/py.typed", "unlearn_core/words/data/words.json"} < set(files)


def test_an_installed_core_works_from_an_empty_folder(installed, tmp_path):
    empty = tmp_path / "an empty folder"
    empty.mkdir()
    program = "import unlearn_core as u; print(u.__version__, u.__file__); help(u.forget)"
    done = subprocess.run([installed, "-c", program], cwd=empty, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(unlearn_core.__version__) and str(ROOT) not in done.stdout.splitlines()[0]
    assert "Make one delta on top of `stack`" in done.stdout
    program = """
from unlearn_core import StandaloneModel
from unlearn_core.standalone.clip_tokenizer import read_merges
from unlearn_core.words.word_list import WordList
print(StandaloneModel.__name__, len(read_merges()), "banana" in WordList.load(None).all_objects)
"""
    done = subprocess.run([installed, "-c", program], cwd=empty, capture_output=True, text=True)
    assert done.stdout == "StandaloneModel 48894 True\n", done.stderr
    command = installed.with_name("unlearn" + installed.suffix)
    delta = ROOT / "assets/demo/deltas/forget_cat.safetensors"
    done = subprocess.run([command, "inspect", delta, "--json"], cwd=empty, capture_output=True, text=True)
    assert json.loads(done.stdout)["concepts"] == ["cat"], done.stderr
    done = subprocess.run([command, "demo"], cwd=empty, capture_output=True, text=True)
    assert done.returncode == 1 and "not part of the installed package" in done.stderr
    assert list(empty.iterdir()) == []
