"""Ctrl-C, SIGTERM and SIGHUP on the command line: all of them stop in the same way."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

from ..starting import heeded

STOPPED = 130
"""Exit code of a run that was stopped, as shells use it for Ctrl-C; 128 and its number for another signal."""
APART, PRESSED = 1.0, 0.1
"""Seconds within which the same wish comes twice: whoever ends a group of processes reaches each more than once.

The second of them for Ctrl-C, which a person can press again sooner.
"""


class Signals:
    """The signals that stop raise `KeyboardInterrupt` for the length of a block, and what came is remembered."""

    first: int | None = None
    """The first one that came."""
    raised = False
    """Whether it ended what was running, rather than only asked for an end."""

    def __enter__(self) -> Signals:
        self._before = install(self._raise)
        now.append(self)
        return self

    def _raise(self, number: int, frame: object) -> None:
        self.first, self.raised = self.first or number, True
        raise KeyboardInterrupt

    @property
    def code(self) -> int:
        """The exit code of a run that was stopped."""
        return STOPPED if self.first is None else 128 + self.first

    def __exit__(self, *_: object) -> None:
        now.remove(self)
        restore(self._before)


now: list[Signals] = []
"""The blocks that are running."""


class StopOnInterrupt:
    """The first Ctrl-C asks for a clean stop and lets files be written, the second one ends at once."""

    wanted = False

    def __enter__(self) -> StopOnInterrupt:
        self._at = 0.0
        self._before = install(self._ask)
        return self

    def _ask(self, number: int, frame: object) -> None:
        if not self.wanted:
            self.wanted, self._at = True, time.monotonic()
            for block in now:
                block.first = block.first or number
        elif number != getattr(signal, "SIGHUP", None) and self._later(PRESSED if number == signal.SIGINT else APART):
            # a closed terminal is told of by the shell, by the system, or by both
            for block in now:
                block.raised = True
            raise KeyboardInterrupt

    def _later(self, seconds: float) -> bool:
        return time.monotonic() - self._at > seconds

    def __exit__(self, *_: object) -> None:
        restore(self._before)


def install(handler: Callable[[int, Any], None]) -> dict[int, Any]:
    """Handle the signals that stop; what was there before, for `restore`."""
    return {number: signal.signal(number, handler) for number in heeded()}


def restore(before: dict[int, Any]) -> None:
    """Give the signals back to whom they belonged; what was not set by Python stays as it is."""
    for number, handler in before.items():
        if handler is not None:
            signal.signal(number, handler)


def ignore() -> None:
    """Let no signal spoil an outcome that is decided, while Python ends."""
    for number in heeded():
        signal.signal(number, signal.SIG_IGN)
