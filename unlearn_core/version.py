"""This tool's version. It is written once, in pyproject.toml, where the hosts' managers look for it."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

NAME = "unlearn-deltas"
UNKNOWN = "unknown"


def find_version(folder: Path) -> str:
    """Of the copy of this repository in `folder`, else of the installed package.

    The copy comes first, since another version may be installed beside the one that runs.
    """
    try:
        text = (folder / "pyproject.toml").read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        text = ""
    # site-packages may hold the pyproject.toml of another package
    if written := re.search(rf'^name = "{NAME}"\nversion = "(.+)"$', text, re.MULTILINE):
        return written[1]
    try:
        return importlib.metadata.version(NAME)
    except importlib.metadata.PackageNotFoundError:
        return UNKNOWN


__version__ = find_version(Path(__file__).resolve().parents[1])
