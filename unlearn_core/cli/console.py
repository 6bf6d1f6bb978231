"""What several commands of the command line share: stacks and settings from their texts, and how a command runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..delta import format as delta_file
from ..delta.paths import Place, from_home, missing
from ..delta.stack import Stack, parse_entry
from ..errors import BadCheckpoint, BadSetting
from .failures import PIPE_CLOSED, flushed, outcome, quiet_libraries, say
from .signals import STOPPED, Signals, StopOnInterrupt

__all__ = ["STOPPED", "StopOnInterrupt", "deltas_read", "print_rows", "read_settings", "read_stack", "run_command"]


def read_stack(texts: Sequence[str]) -> Stack:
    """`DELTA[:STRENGTH]` texts as a stack, first is lowest."""
    stack = Stack()
    for text in texts:
        path, strength = parse_entry(text)
        stack = stack.with_delta(delta_file.load(path), strength)
    return stack


def deltas_read(texts: Sequence[str]) -> list[Place]:
    """The files of `DELTA[:STRENGTH]` texts, for `paths.check_outputs`."""
    return [("the delta", parse_entry(text)[0]) for text in texts]


def checkpoint(text: str) -> str:
    """The place of a model; see `from_home`."""
    return str(from_home(text)) if text.startswith("~") else text


def check_is_there(*checkpoints: str | Path | None) -> None:
    """Raise `BadCheckpoint` where one is missing, before a folder is made for what comes out. None: none is given."""
    for place in checkpoints:
        if place and not Path(place).exists():
            raise BadCheckpoint(missing(Path(place)))


def device(text: str) -> str:
    """A device's name, without the one on which torch holds no numbers. Raises `BadSetting`."""
    if text.partition(":")[0] == "meta":
        raise BadSetting(f"The device '{text}' computes nothing: use cpu, cuda or mps.")
    return text


def print_rows(rows: Sequence[tuple[str, str]]) -> None:
    """Rows of (label, value), one below the other."""
    width = max(len(label) for label, _ in rows)
    for label, value in rows:
        print(f"{label + ':':{width + 1}} {value}")


def print_notes(notes: Iterable[str]) -> None:
    """Sentences on the side, each on its line, beside what a command prints."""
    for sentence in notes:
        say(f"note: {sentence}")


def read_settings(pairs: Sequence[str]) -> dict[str, str]:
    """`KEY=VALUE` texts as names and values, the last of a name. Raises `BadSetting` for one without an equals sign."""
    for pair in pairs:
        if "=" not in pair:
            raise BadSetting(f"'{pair}' is not KEY=VALUE, as in --set quality=quick.")
    return dict(pair.split("=", 1) for pair in pairs)


def run_command(parser: argparse.ArgumentParser, given: Sequence[str], stopped: str = "Stopped.") -> int:
    """Run what the arguments ask for, and say in one sentence what went wrong; the exit code.

    0 done, 1 a mistake, 2 usage, 130 stopped by Ctrl-C (128 and its number for another signal), 141 the reader of the
    output has gone.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a console of an old code page must not end the run
    debug = "--debug" in given
    with Signals() as signals, quiet_libraries(debug):
        try:
            args = parser.parse_args(given)
            code = args.run(args)
            if not flushed():
                return PIPE_CLOSED
            return signals.code if code == STOPPED else code
        except (Exception, KeyboardInterrupt) as e:
            return outcome(e, signals, stopped, debug)
