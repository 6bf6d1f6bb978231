"""The measurements by name, and where what they found is kept."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable
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
        kept = json.loads(out.read_text("utf-8")) if out.is_file() else {}
        write_json(out, kept | {name: outcome.to_json()})
    return outcome
