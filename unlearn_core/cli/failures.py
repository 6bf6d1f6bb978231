"""What the command line says when something goes wrong: one sentence, and the rest for those who ask for it."""

from __future__ import annotations

import errno
import logging
import os
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from ..delta.atomic import FULL
from ..device_memory import is_out_of_memory
from ..errors import Cancelled, UnlearnError
from .signals import Signals

PIPE_CLOSED = 141
"""Exit code where the reader of the output has gone (`... | head`), as shells use it."""
OPTIONS = {"'Go on regardless'": "--force", "'Draw instead'": "--anchor", "under 'Keep'": "--keep"}
DETAILS = "Run the command again with --debug for details."
OUT_OF_MEMORY = "There is not enough memory: close other programs, or run it with --device cpu."


def outcome(error: BaseException, signals: Signals, stopped: str, debug: bool) -> int:
    """Say how a command ended that did not end well; its exit code."""
    if debug and not isinstance(error, BrokenPipeError):
        with suppress(OSError, ValueError):
            traceback.print_exception(type(error), error, error.__traceback__)
    if isinstance(error, KeyboardInterrupt) or signals.raised:
        # a library may have told the interrupt as a mistake of its own
        say(stopped)
        return signals.code
    if isinstance(error, Cancelled):
        say(str(error))
        return signals.code
    if isinstance(error, BrokenPipeError):
        return PIPE_CLOSED
    if signals.first and isinstance(error, OSError) and error.errno == errno.EIO:
        return signals.code  # the terminal that was closed cannot be told the outcome, the files are written
    say(f"error: {sentence(error)}")
    return 1


def sentence(error: BaseException) -> str:
    """What went wrong, and what to do next."""
    if isinstance(error, UnlearnError):
        return with_options(str(error))
    if is_out_of_memory(error):
        return OUT_OF_MEMORY
    if isinstance(error, OSError) and error.errno in FULL:
        # our own files tell it in their own words
        return "The disk to which the output goes is full: make room, or send the output to another place."
    if isinstance(error, OSError) and error.strerror:
        place = f"'{os.fsdecode(error.filename)}': " if isinstance(error.filename, (str, bytes)) else ""
        return f"{place}{error.strerror}. {DETAILS}"
    lines = str(error).strip().splitlines()
    what = ": ".join([type(error).__name__, *lines[:1]])
    return f"Something went wrong that has no message of its own ({what}). {DETAILS}"


def with_options(text: str) -> str:
    """A sentence of the core with the command line's options beside the labels that forms have."""
    for label, option in OPTIONS.items():
        text = text.replace(label, f"{label} ({option})", 1)
    return text


def say(text: str, stream: TextIO | None = None) -> None:
    """A line for a person, on standard error if nothing else is given; no matter if nobody can hear it any more."""
    with suppress(OSError, ValueError):
        print(printable(text), file=stream or sys.stderr, flush=True)


def printable(text: str) -> str:
    """The text with control characters spelled out, which could steer a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def flushed() -> bool:
    """Bring out what was printed; False where nobody reads it any more. Raises `OSError` for a full disk."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
        return True
    except BrokenPipeError:
        return False


def silence_streams() -> None:
    """Send what is left to print nowhere, so that Python does not complain about it at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError, AttributeError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def quiet_libraries(debug: bool) -> Iterator[None]:
    """Keep warnings and logs of other packages off the console for the length of a block."""
    if debug:
        yield
        return
    hooks, level = (sys.unraisablehook, threading.excepthook), logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        sys.unraisablehook = lambda _: None
        threading.excepthook = lambda _: None
        try:
            yield
        finally:
            sys.unraisablehook, threading.excepthook = hooks
            logging.disable(level)
