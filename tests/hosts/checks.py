"""Runs checks one by one, goes on after a failure, and counts."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


class Checks:
    """Prints a line a check."""

    def __init__(self) -> None:
        self.failed = 0

    def __call__(self, name: str, passed: bool, facts: Any = "") -> None:
        self.failed += not passed
        print(f"{'ok  ' if passed else 'FAIL'} {name}{f': {facts}' if facts != '' else ''}", flush=True)

    def run(self, part: Callable[..., Any], *values: Any) -> Any:
        """A group of checks; an exception is one failure."""
        begun = time.monotonic()
        try:
            return part(*values)
        except Exception as e:
            self(part.__name__.replace("_", " "), False, f"{type(e).__name__}: {e}")
            return None
        finally:
            print(f"--   {part.__name__.replace('_', ' ')}: {time.monotonic() - begun:.0f} s", flush=True)
