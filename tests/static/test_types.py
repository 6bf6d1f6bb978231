"""`python install.py test` runs mypy over the core; this makes sure that its settings let it find something."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WRONG = '''"""Given a number for a stack."""

from .delta.stack import Stack
from .host import HostModel


def look(host: HostModel) -> None:
    """A session on no stack at all."""
    with host.session(3):
        print(Stack().entries[0].delta.nothing)
'''


@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is not installed")
def test_wrong_types_are_found(tmp_path):
    """In a file of the core's own package, seen through a shadow: nothing is written into the repository."""
    wrong, file = tmp_path / "wrong.py", f"unlearn_core{os.sep}preview.py"
    wrong.write_text(WRONG, "utf-8")
    command = [sys.executable, "-m", "mypy", "--shadow-file", file, str(wrong), file]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "[arg-type]" in done.stdout and "[attr-defined]" in done.stdout, done.stdout + done.stderr
