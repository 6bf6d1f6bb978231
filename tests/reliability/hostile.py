"""Files from strangers: each is refused in a sentence, soon, within its memory, and without a control character."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from unlearn_core.cli.main import main

from .child import Limits, forked
from .hostile_checkpoints import CHECKPOINTS
from .hostile_deltas import DELTAS, HOSTILE
from .outcome import Outcome
from .scenes import MODEL, QUICK, prepare

LIMITS = Limits(seconds=60, memory=3.0)
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def hostile(count: int, folder: Path, tick: Callable[[], None]) -> Outcome:
    """Open up to `count` files, of every kind some: deltas by `inspect` and `stack`, checkpoints by `forget`."""
    cases = [*DELTAS.items(), *CHECKPOINTS.items()]
    cases = cases[:: max(1, len(cases) // count)][:count]
    outcome = Outcome("hostile", len(cases))
    for number, (name, make) in enumerate(cases):
        place = folder / f"case {number}"
        prepare(place)
        make(place)
        commands = DELTA_COMMANDS if name in DELTAS else MODEL_COMMANDS
        wrong = [w for command in commands for w in opened(place, command)]
        outcome.note(name, wrong)
        shutil.rmtree(place)
        tick()
    return outcome


DELTA_COMMANDS: tuple[tuple[str, ...], ...] = (
    ("inspect", HOSTILE),
    ("stack", HOSTILE, "cat.safetensors", "--out", "merged.safetensors"),
)
MODEL_COMMANDS = (("forget", "--checkpoint", MODEL, "--concept", "dog", "--out", "dog.safetensors", *QUICK),)


def opened(place: Path, command: tuple[str, ...]) -> list[str]:
    """What is wrong with how a command takes the file."""

    def task() -> int:
        os.chdir(place)
        return main(command)

    ended = forked(task, LIMITS, place.with_suffix(".log"))
    wrong = []
    if ended.code != 1 or "Traceback" in ended.text or "error: " not in ended.text:
        wrong.append(f"{command[0]} ends with {ended.code}: {ended.text.strip()[-300:]!r}")
    if control := CONTROL.search(ended.text):
        wrong.append(f"{command[0]} prints {control[0]!a}")
    if "--debug" in ended.text:
        wrong.append(f"{command[0]} did not foresee it: {ended.text.strip()[-300:]!r}")
    return wrong
