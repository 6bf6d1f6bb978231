"""`python install.py release` names what is missing before the pack can be published."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import unlearn_core
from tests import release
from tests.install.calling import ROOT, call

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
    """A repository's folder that lacks nothing."""
    monkeypatch.setattr(release, "ROOT", tmp_path)
    (tmp_path / "pyproject.toml").write_text(WHOLE, "utf-8")
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## 0.1.0 - 2026-11-28\n", "utf-8")
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"], ["tag", "v0.1.0"]):
        in_git(tmp_path, *arguments)
    return tmp_path


def in_git(folder: Path, *arguments: str) -> None:
    """Run git as somebody, whatever this machine's settings are."""
    someone = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *someone, *arguments], cwd=folder, check=True, capture_output=True)


pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib is missing")


def test_nothing_is_missing_from_a_whole_release(publishable, capsys):
    assert release.release() == 0
    assert "Nothing is missing" in capsys.readouterr().out


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
    path = publishable / file
    assert old in path.read_text("utf-8")
    path.write_text(path.read_text("utf-8").replace(old, new, 1), "utf-8")
    assert release.release() == 1
    said = capsys.readouterr().out
    assert f"missing: {missing}" in said and "missing: a commit of what was changed" in said
    in_git(publishable, "commit", "-q", "-a", "-m", "change")
    assert release.release() == 1
    said = capsys.readouterr().out
    assert "a commit of" not in said and "the tag v0." in said


def test_the_real_repository_is_read(publishable, monkeypatch):
    monkeypatch.setattr(release, "ROOT", ROOT)
    monkeypatch.setattr(release, "git", lambda *arguments: [])
    missing = release.unpublishable()
    assert f"the tag v{unlearn_core.__version__} at this commit" in " ".join(missing)
    assert not any("CHANGELOG" in sentence for sentence in missing)


def test_a_folder_without_git_is_named(publishable, capsys):
    shutil.rmtree(publishable / ".git")
    assert release.release() == 1
    assert "git tag failed: fatal: not a git repository" in capsys.readouterr().err


def test_install_py_runs_it():
    done = call(ROOT, "release")
    assert done.returncode == 1 and "missing: the tag v" in done.stdout
