"""What several commands of the command line share: stacks from their texts, places to write to, Ctrl-C."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..delta import format as delta_file
from ..delta.paths import Place
from ..delta.stack import Stack, parse_entry
from ..errors import BadSetting, Cancelled, UnlearnError, visible

STOPPED = 130
"""Exit code of a run that was stopped, as shells use it for Ctrl-C."""


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


def print_rows(rows: Sequence[tuple[str, str]]) -> None:
    """Rows of (label, value), one below the other."""
    width = max(len(label) for label, _ in rows)
    for label, value in rows:
        print(f"{label + ':':{width + 1}} {value}")


def print_notes(notes: Iterable[str]) -> None:
    """Sentences on the side, each on its line, beside what a command prints."""
    for sentence in notes:
        print(f"note: {visible(sentence)}", file=sys.stderr)


def read_settings(pairs: Sequence[str]) -> dict[str, str]:
    """`KEY=VALUE` texts as names and values. Raises `BadSetting` for one without an equals sign."""
    for pair in pairs:
        if "=" not in pair:
            raise BadSetting(f"'{pair}' is not KEY=VALUE.")
    return dict(pair.split("=", 1) for pair in pairs)


def check_writable(file: Path | None) -> None:
    """Fail before the work and not after it: make the folder and try a file in it."""
    if file is None:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        probe = file.parent / f".{file.name}.try"
        probe.touch()
        probe.unlink()
    except OSError as e:
        raise UnlearnError(f"Cannot write into {file.parent} ({e.strerror or e}); choose another place.") from None


def run_command(parser: argparse.ArgumentParser, given: Sequence[str], stopped: str = "Stopped.") -> int:
    """Run what the arguments ask for; the exit code: 0 done, 1 a mistake said in one sentence, 2 usage, 130 stopped."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a console of an old code page must not end the run
    args = parser.parse_args(given)
    try:
        return args.run(args)
    except Cancelled as e:
        print(e, file=sys.stderr)
        return STOPPED
    except UnlearnError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(stopped, file=sys.stderr)
        return STOPPED


class StopOnInterrupt:
    """The first Ctrl-C asks for a clean stop and lets files be written, the second one ends at once."""

    wanted = False

    def __enter__(self) -> StopOnInterrupt:
        self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def _ask(self, *_: object) -> None:
        self.wanted = True
        signal.signal(signal.SIGINT, self._before)

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)
