"""Ways to run install.py: in a process of its own, and as a module."""

import importlib.util
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def load(folder: Path):
    """The install.py of a repository as a module."""
    spec = importlib.util.spec_from_file_location("install_under_test", folder / "install.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def call(repository: Path, *arguments: str, cwd: Path | None = None, python: str = sys.executable):
    """Run install.py in a process of its own."""
    command = [python, str(repository / "install.py"), *arguments]
    return subprocess.run(command, cwd=cwd or repository, capture_output=True, text=True)
