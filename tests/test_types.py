"""The core's types hold, as far as mypy can tell; the settings are in pyproject.toml."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WRONG = '''"""Given a number for a stack."""

from .delta.stack import Stack
from .host import HostModel


def look(host: HostModel) -> None:
    """A session on no stack at all."""
    with host.session(3):
        print(Stack().entries[0].delta.nothing)
'''


def checked(*arguments: str) -> subprocess.CompletedProcess:
    """mypy from the repository's root."""
    return subprocess.run([sys.executable, "-m", "mypy", *arguments], cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module", autouse=True)
def mypy():
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed; `python install.py test` does that")


@pytest.mark.timeout(1200)
def test_the_cores_types_hold():
    done = checked("unlearn_core")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("Success: no issues found")


def test_wrong_types_are_found(tmp_path):
    """A file of the core's own package, seen through a shadow: nothing is written into the repository."""
    wrong = tmp_path / "wrong.py"
    wrong.write_text(WRONG, "utf-8")
    done = checked("--shadow-file", f"unlearn_core{os.sep}preview.py", str(wrong), f"unlearn_core{os.sep}preview.py")
    assert done.returncode == 1
    assert "[arg-type]" in done.stdout and "[attr-defined]" in done.stdout, done.stdout + done.stderr
