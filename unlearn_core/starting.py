"""The first seconds of the command line, before the heavy imports.

Nothing happens here in a program that only uses the package.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

STOPS = tuple(getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, n))
"""Ctrl-C, a polite end from outside, a closed terminal, and the last two's like on Windows."""
QUIET = {
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "DIFFUSERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
}
"""Words of other packages that would stand between ours. Only `--debug` lets them through."""


def is_command_line() -> bool:
    """Whether this process was started as `python -m unlearn_core` or by the command `unlearn`."""
    arguments, whole = sys.argv, getattr(sys, "orig_argv", [])
    if arguments and arguments[0] == "-m":
        # while Python looks for the module; its name stands before the arguments
        return len(whole) >= len(arguments) and whole[-len(arguments)].removeprefix("-m") == __package__
    return bool(arguments) and Path(arguments[0]).stem.removesuffix("-script") == "unlearn"


def fill_streams() -> None:
    """Open what the caller has closed: else a file that is written could become the place for messages."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            handle = os.open(os.devnull, os.O_RDWR)
            if handle != number:
                os.dup2(handle, number)
                os.close(handle)
        if getattr(sys, name) is None:
            # for as long as the process lives
            setattr(sys, name, open(os.devnull, "r" if number == 0 else "w", encoding="utf-8"))  # noqa: SIM115


def heeded() -> list[signal.Signals]:
    """The signals that stop; not those that whoever started this process has switched off (nohup, a shell's `&`)."""
    if threading.current_thread() is not threading.main_thread():
        return []
    return [s for s in STOPS if signal.getsignal(s) is not signal.SIG_IGN]


def end(number: int, frame: object) -> None:
    """Stop at once: nothing has begun, and an exception would be lost in an import."""
    try:
        os.write(2, b"Stopped.\n")
    finally:
        os._exit(128 + number)


WITHOUT_TORCH = (
    "error: torch is not installed for this Python. Use that of the environment which install.py made: "
    ".venv/bin/python or .venv-app/bin/python in place of python (Windows: .venv\\Scripts\\python)."
)


if is_command_line():
    if find_spec("torch") is None:
        sys.exit(WITHOUT_TORCH)
    for heard in heeded():
        signal.signal(heard, end)
    fill_streams()
    if "--debug" not in sys.argv:
        os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
