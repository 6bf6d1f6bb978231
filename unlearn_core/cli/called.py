"""How this program was called, for sentences that name a command to type next."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path


def called() -> str:
    """`unlearn`, or `python -m unlearn_core` with the very Python that runs it, as it is typed in this folder."""
    if Path(sys.argv[0]).stem == "unlearn":
        return "unlearn"
    python = sys.executable
    if python == shutil.which("python"):
        return "python -m unlearn_core"
    folder = f"{Path.cwd()}/".replace("\\", "/")
    # an environment's Python is a link: it is not to be followed
    shown = python.replace("\\", "/").removeprefix(folder)
    return f'"{shown}" -m unlearn_core' if " " in shown else f"{shown} -m unlearn_core"
