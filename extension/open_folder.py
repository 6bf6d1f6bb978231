"""Shows a folder in the system's file manager: the only thing here that starts a program."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from ..unlearn_core import UnlearnError
from .delta_library import not_there

PATIENCE = 3.0
"""Seconds in which a file manager says that it cannot; one that works may stay open for long."""


def open_folder(folder: Path) -> str:
    """Open it on the screen of this machine, and say so. Raises `UnlearnError`. No shell sees the folder's name."""
    folder = folder.resolve()
    if problem := not_there(folder):
        raise UnlearnError(problem)
    try:
        if sys.platform == "win32":
            os.startfile(folder)
            done = 0
        else:
            done = started("open" if sys.platform == "darwin" else "xdg-open", folder)
    except OSError as e:
        raise UnlearnError(f"The folder could not be opened ({e}). It is {folder}.") from e
    if done:
        raise UnlearnError(f"No file manager could be started. The folder is {folder}.")
    return f"The folder {folder} is open."


def started(name: str, folder: Path) -> int:
    """Start a program of that name on a folder; 0 where it works or is still at work."""
    program = shutil.which(name)
    if program is None:
        return 1
    silent = subprocess.DEVNULL
    # a session of its own: Ctrl-C in our terminal is not meant for it
    child = subprocess.Popen([program, str(folder)], stdin=silent, stdout=silent, stderr=silent, start_new_session=True)
    try:
        return child.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        return 0
