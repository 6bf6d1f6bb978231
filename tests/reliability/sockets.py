"""Every connection that a command opens is seen: none may leave this machine."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unlearn_core.cli.main import main

from .child import Limits, forked
from .outcome import Outcome
from .scenes import MODEL, QUICK, SCENES, prepare

SEEN = "[socket] "
EVENTS = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg"}
LOCAL = re.compile(r"^(127\.|::1$|localhost$|None$|0\.0\.0\.0$)")
COMMANDS: dict[str, tuple[str, ...]] = {
    **{scene.name: scene.arguments for scene in SCENES},
    "look into a delta": ("inspect", "cat.safetensors"),
    "draw": ("preview", "--checkpoint", MODEL, "--prompts", "a cat", "--steps", "2", "--out", "p.png", *QUICK[2:]),
}


def sockets(count: int, folder: Path, tick: Callable[[], None]) -> Outcome:
    """Run up to `count` commands, each with its calls for addresses and connections written down."""
    commands = list(COMMANDS.items())[:count]
    outcome = Outcome("sockets", len(commands), counted={"connections": 0})
    for number, (name, arguments) in enumerate(commands):
        place = folder / f"run {number}"
        prepare(place)
        ended = forked(lambda: watched(arguments, place), Limits(600), place.with_suffix(".log"))  # noqa: B023
        seen = [line.removeprefix(SEEN) for line in ended.text.splitlines() if line.startswith(SEEN)]
        outcome.counted["connections"] += len(seen)
        wrong = [place for place in seen if not LOCAL.match(place)]
        outcome.note(name, wrong + ([] if not ended.code else [ended.text[-300:]]))
        tick()
    return outcome


def watched(arguments: tuple[str, ...], place: Path) -> int:
    """A command with a line for every address that it asks for."""

    def hook(event: str, details: tuple[Any, ...]) -> None:
        if event in EVENTS:
            where = details[0] if event.startswith("socket.get") else details[1]
            print(SEEN + str(where[0] if isinstance(where, tuple) else where), flush=True)

    sys.addaudithook(hook)
    os.chdir(place)
    return main(arguments)
