"""The package as pip installs it, its public names, its version, and what a release needs."""

import importlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

import unlearn_core
from unlearn_core.errors import UnlearnError
from unlearn_core.version import find_version

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = (ROOT / "pyproject.toml").read_text("utf-8")
PUBLIC = """
    forget Result ForgetConfig settings Delta DeltaInfo Stack Entry load save StandaloneModel HostModel Conditioning
    Progress StepReport UnlearnError BadSetting BadDelta BadCheckpoint TrainingFailed Cancelled __version__
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


def test_importing_loads_no_model_reader():
    program = "import sys, unlearn_core; sys.exit('unlearn_core.standalone' in sys.modules or 'PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0


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


@pytest.mark.full
def test_pip_installs_the_core_alone_and_with_its_data(installed, tmp_path):
    """8 s; the next one 10 s on one core, most of it torch's import."""
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


@pytest.mark.full
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


# What a release needs

WHOLE = """[project]
name = "unlearn-deltas"
version = "0.1.0"
[project.urls]
Repository = "https://example.org/unlearn"
[tool.comfy]
PublisherId = "ann"
"""


@pytest.fixture
def publishable(tmp_path, monkeypatch):
    """A repository's folder that lacks nothing, and its install.py."""
    spec = importlib.util.spec_from_file_location("install_under_test", ROOT / "install.py")
    install = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(install)
    monkeypatch.setattr(install, "ROOT", tmp_path)
    (tmp_path / "pyproject.toml").write_text(WHOLE, "utf-8")
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## 0.1.0 - 2026-11-28\n", "utf-8")
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"], ["tag", "v0.1.0"]):
        in_git(tmp_path, *arguments)
    return tmp_path, install


def in_git(folder: Path, *arguments: str) -> None:
    """Run git as somebody, whatever this machine's settings are."""
    someone = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *someone, *arguments], cwd=folder, check=True, capture_output=True)


needs_toml = pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib is missing")


@needs_toml
def test_nothing_is_missing_from_a_whole_release(publishable, capsys):
    assert publishable[1].main(["release"]) == 0
    assert "Nothing is missing" in capsys.readouterr().out


@needs_toml
@pytest.mark.parametrize(
    ("file", "old", "new", "missing"),
    [
        ("pyproject.toml", "Repository = ", "Other = ", "Repository under [project.urls]"),
        ("pyproject.toml", 'PublisherId = "ann"', 'PublisherId = ""', "PublisherId under [tool.comfy]"),
        ("CHANGELOG.md", " - 2026-11-28", "", "'## 0.1.0 - YYYY-MM-DD' as the first heading"),
        ("CHANGELOG.md", "## 0.1.0", "## Unreleased\n\n## 0.1.0", "'## 0.1.0 - YYYY-MM-DD' as the first heading"),
        ("pyproject.toml", 'version = "0.1.0"', 'version = "0.2.0"', "the tag v0.2.0"),
    ],
)
def test_what_is_missing_is_named(publishable, capsys, file, old, new, missing):
    folder, install = publishable
    path = folder / file
    assert old in path.read_text("utf-8")
    path.write_text(path.read_text("utf-8").replace(old, new, 1), "utf-8")
    assert install.main(["release"]) == 1
    said = capsys.readouterr().out
    assert f"missing: {missing}" in said and "missing: a commit of what was changed" in said
    in_git(folder, "commit", "-q", "-a", "-m", "change")
    assert install.main(["release"]) == 1
    said = capsys.readouterr().out
    assert "a commit of" not in said and "the tag v0." in said


@needs_toml
def test_the_real_repository_is_read(publishable, monkeypatch):
    install = publishable[1]
    monkeypatch.setattr(install, "ROOT", ROOT)
    monkeypatch.setattr(install, "git", lambda *arguments: [])
    missing = install.unpublishable()
    assert f"the tag v{unlearn_core.__version__} at this commit" in " ".join(missing)
    assert not any("CHANGELOG" in sentence for sentence in missing)


@needs_toml
def test_a_folder_without_git_is_named(publishable, capsys):
    folder, install = publishable
    shutil.rmtree(folder / ".git")
    assert install.main(["release"]) == 1
    assert "git tag failed: fatal: not a git repository" in capsys.readouterr().err
