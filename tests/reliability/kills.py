"""Commands killed at random: nothing of the artist's is lost, nothing is half, and the same command then ends well."""

from __future__ import annotations

import random
import shutil
import signal
from pathlib import Path

from .child import Limits, forked
from .outcome import Outcome
from .scenes import SCENES, Rehearsed, prepare


def kills(count: int, folder: Path, tick) -> Outcome:
    """Kill `count` runs, each scene in turn, by SIGKILL at a random place of its work; every one then runs again."""
    rehearsed = [Rehearsed.of(scene, folder / "rehearsal") for scene in SCENES]
    draw, outcome = random.Random(0), Outcome("kills", count)
    for number in range(count):
        scene = rehearsed[number % len(rehearsed)]
        place = folder / f"run {number}"
        prepare(place)
        at = draw.uniform(0, scene.ended.work)
        ended = forked(lambda: scene.scene.run_in(place), Limits(work=at), place.with_suffix(".log"))  # noqa: B023
        outcome.count("killed while it worked", ended.code == -signal.SIGKILL)
        wrong = scene.losses(place) + scene.once_more(place, Limits())
        outcome.note(f"{scene.scene.name}, killed after {at:.2f} s of work", wrong)
        shutil.rmtree(place)
        tick()
    return outcome
