"""Runs that are killed and gone on with: the delta has the bytes of an unbroken run."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

from unlearn_core.cli.main import main

from .child import Ended, Limits, forked
from .outcome import Outcome
from .scenes import FIRST, MODEL, prepare

FEW = ("--set", "sampling_steps=2", "--device", "cpu")
RUNS: dict[str, tuple[str, ...]] = {
    "checked": ("--concept", "dog", *FEW),
    "a list on a stack": ("--concept", "dog, frog", "--stack", FIRST, *FEW),
    "trained": ("--concept", "dog", "--set", "closed_form=no", "--set", "steps=12", "--set", "batch=2", *FEW),
    "a style, in quick quality": ("--concept", "ink style", "--set", "quality=quick", *FEW),
}
"""{what is broken off: its arguments}."""
OUT = "new/delta.safetensors"


def resume(count: int, folder: Path, tick: Callable[[], None]) -> Outcome:
    """Kill `count` runs at a random place of their work, some a second time, and go on with each until it ends."""
    outcome, draw = Outcome("resume", count), random.Random(0)
    unbroken = {}
    for name, arguments in RUNS.items():
        prepare(place := folder / "unbroken")
        ended = one(arguments, place)
        unbroken[name] = (ended, deltas(place))
        shutil.rmtree(place)
    for number in range(count):
        name = list(RUNS)[number % len(RUNS)]
        whole, bytes_of = unbroken[name]
        prepare(place := folder / f"run {number}")
        kills = 0
        for again in range(draw.randint(1, 2)):
            arguments = RUNS[name] + (("--resume",) if again else ())
            ended = one(arguments, place, draw.uniform(0, whole.work))
            kills += ended.code == -signal.SIGKILL
        last = one((*RUNS[name], "--resume"), place)
        outcome.count("killed", bool(kills))
        outcome.count("killed twice", kills == 2)
        wrong = [] if not last.code else [f"going on ended with {last.code}: {last.text[-300:]}"]
        outcome.note(name, wrong + ([] if deltas(place) == bytes_of else ["other bytes than an unbroken run"]))
        shutil.rmtree(place)
        tick()
    return outcome


def one(arguments: tuple[str, ...], place: Path, work: float | None = None) -> Ended:
    """A run, killed after some seconds of work; with few pictures, so that a check takes seconds."""

    def task() -> int:
        from unlearn_core import recipe

        recipe.DEFAULT.update(recipe.SMALL)
        os.chdir(place)
        return main(("forget", "--checkpoint", MODEL, "--out", OUT, *arguments))

    return forked(task, Limits(3600, work=work), place.with_suffix(".log"))


def deltas(place: Path) -> dict[str, str]:
    """{name: sha256} of the deltas that were written."""
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in (place / "new").glob("*.safetensors")}
