"""`locales/en/nodeDefs.json`, made from the nodes themselves; the other languages are translated by hand.

usage: python -m tests.comfy.locales   writes it anew; a test compares it with what this would write.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.comfy.sources import NEWEST, ON, tree

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parents[1] / "locales"
LANGUAGES = ("en", "zh", "ja")


def of_the_nodes() -> dict:
    """What the nodes say of themselves, asked in a ComfyUI of its own. Raises `SourceError` where there is none."""
    command = [sys.executable, str(HERE / "boot.py"), str(tree(NEWEST)), str(HERE / "schemas.py"), *ON]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def read(language: str, name: str) -> dict:
    """A file of a language."""
    return json.loads((FOLDER / language / f"{name}.json").read_text("utf-8"))


if __name__ == "__main__":
    text = json.dumps(of_the_nodes(), indent=2, ensure_ascii=False)
    (FOLDER / "en" / "nodeDefs.json").write_text(text + "\n", "utf-8", newline="\n")
