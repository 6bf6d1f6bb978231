"""The measurements by name, and where what they found is kept."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import date
from pathlib import Path

from tqdm import tqdm

from unlearn_core.delta.atomic import write_json
from unlearn_core.errors import BadSetting

from .child import preload
from .faults import faults
from .fuzz import fuzz
from .hostile import hostile
from .kills import kills
from .outcome import Outcome
from .resume import resume
from .soak import soak
from .sockets import sockets

ROOT = Path(__file__).resolve().parents[2]
Measurement = Callable[[int, Path, Callable[[], None]], Outcome]
MEASUREMENTS: dict[str, tuple[Measurement, int]] = {
    "kills": (kills, 200),
    "faults": (faults, 60),
    "hostile": (hostile, 1000),
    "fuzz": (fuzz, 30),
    "resume": (resume, 50),
    "soak": (soak, 100),
    "sockets": (sockets, 100),
}
"""{name: (what runs, how many cases, cycles or minutes by default)}."""


def measure(name: str, count: int | None, out: Path | None) -> Outcome:
    """Run one in a folder of its own, with a bar; add it to the file `out`. Raises `UnlearnError`."""
    run, usual = MEASUREMENTS[name]
    if count is not None and count < 1:
        raise BadSetting("--count has to be 1 or more.")
    preload()
    folder = Path(tempfile.mkdtemp(prefix="reliability-"))
    try:
        with tqdm(file=sys.stderr, unit="") as bar:
            outcome = run(count or usual, folder / "work", bar.update)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if out:
        keep(outcome, out)
    return outcome


def keep(outcome: Outcome, file: Path) -> None:
    """Put an outcome into a file of results, in the place of an older one of the same name."""
    kept = json.loads(file.read_text("utf-8")) if file.is_file() else {"sources": {}, "rows": []}
    git = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip() or "unknown"
    cores = f"{os.cpu_count()} CPU cores, {platform.system()}"
    kept["sources"][outcome.name] = {"date": f"{date.today()}", "commit": commit, "device": cores}
    rows = [row for row in kept["rows"] if row["name"] != outcome.name]
    kept["rows"] = [*rows, {"name": outcome.name, "source": outcome.name, **outcome.to_json()}]
    write_json(file, kept)
