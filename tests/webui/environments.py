"""Python environments with a web UI's gradio beside the torch that the tests run on.

They are made once, into a folder that git ignores.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import torch
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "webui"
MADE = "made.txt"
"""Written last: an environment without it was cut off."""


class EnvironmentProblem(Exception):
    """An environment could not be made; the message says why."""


def python_with(gradio: str, cache: Path = CACHE) -> Path:
    """The interpreter of the environment of `requirements/webui-GRADIO.txt`. Raises `EnvironmentProblem`."""
    pins = ROOT / "requirements" / f"webui-{gradio}.txt"
    lender = Path(torch.__file__).resolve().parents[1]
    facts = "\n".join([hashlib.sha256(pins.read_bytes()).hexdigest(), sys.version, torch.__version__, str(lender)])
    cache.mkdir(parents=True, exist_ok=True)
    # two processes test: one makes it, the other waits
    with FileLock(cache / f"{gradio}.lock"):
        return made(cache / gradio, pins, lender, facts)


def made(folder: Path, pins: Path, lender: Path, facts: str) -> Path:
    """The interpreter of an environment that is made anew where its facts have changed."""
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if (folder / MADE).is_file() and (folder / MADE).read_text("utf-8") == facts:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    run([sys.executable, "-m", "venv", str(folder)])
    # behind its own packages, so that these win
    inside = sysconfig.get_path("purelib", "venv", {"base": str(folder), "installed_base": str(folder)})
    Path(inside, "zz_lent.pth").write_text(f"{lender}\n", "utf-8")
    quiet = ["--quiet", "--disable-pip-version-check", "--no-input", "--no-compile", "--only-binary=:all:"]
    run([str(python), "-m", "pip", "install", *quiet, "-r", str(pins)])
    (folder / MADE).write_text(facts, "utf-8")
    return python


def run(command: list[str]) -> None:
    """Run a command without a word; `EnvironmentProblem` with its last lines when it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=900)
    except (OSError, subprocess.TimeoutExpired) as e:
        raise EnvironmentProblem(f"{command[:4]}: {e}") from e
    if done.returncode:
        raise EnvironmentProblem(f"{' '.join(command[:4])} failed:\n{done.stderr[-1500:]}")
