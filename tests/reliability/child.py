"""Commands in processes of their own that start at once: forked from one that has loaded all code already."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from unlearn_core.errors import UnlearnError

CRASHED = 70
"""Exit code of a child whose task raised."""
POLL = 0.01
"""Seconds between two looks at a child."""


@dataclass(frozen=True)
class Limits:
    """What a child may take, or it is killed. seconds: by the clock. memory: GiB beside what its parent holds, or None.

    work: seconds of the processor, or None; on a machine that does much else these tell how far a child has come.
    """

    seconds: float = 600.0
    memory: float | None = None
    work: float | None = None


@dataclass(frozen=True)
class Ended:
    """How a child ended. code: its exit code, or minus the signal. text: what it printed. peak: GiB that it held.

    seconds: by the clock. work: seconds of the processor.
    """

    code: int
    text: str
    seconds: float
    peak: float
    work: float

    @property
    def clean(self) -> bool:
        """Whether it ended of itself, in words."""
        return self.code in (0, 1, 2, 130) and "Traceback" not in self.text


def forked(task: Callable[[], int | None], limits: Limits = Limits(), log: Path | None = None) -> Ended:
    """Run a task in a forked process and wait for its end. Raises `UnlearnError` where processes cannot be forked."""
    if not hasattr(os, "fork"):
        raise UnlearnError("This measurement needs a system that can fork processes: Linux or macOS.")
    log = log or Path(os.devnull)
    sys.stdout.flush()
    sys.stderr.flush()
    begun = time.monotonic()
    pid = os.fork()
    if not pid:
        inside(task, limits, log)
    killed = False
    while True:
        found, status, usage = os.wait4(pid, os.WNOHANG)
        if found:
            break
        if not killed and beyond(limits, pid, begun):
            os.kill(pid, signal.SIGKILL)
            killed = True
        time.sleep(POLL)
    text = log.read_text("utf-8", "replace") if log.is_file() else ""
    # Linux counts in KiB, macOS in bytes
    peak = usage.ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
    work = usage.ru_utime + usage.ru_stime
    return Ended(os.waitstatus_to_exitcode(status), text, time.monotonic() - begun, peak, work)


def beyond(limits: Limits, pid: int, begun: float) -> bool:
    """Whether a child that began at a time of the clock has had what it may take."""
    if limits.work is not None and worked(psutil.Process(pid)) > limits.work:
        return True
    return time.monotonic() - begun > limits.seconds


def worked(process: psutil.Process) -> float:
    """Seconds of the processor that a process has taken so far."""
    times = process.cpu_times()
    return times.user + times.system


def inside(task: Callable[[], int | None], limits: Limits, log: Path) -> None:
    """The child's life; never returns."""
    code = CRASHED
    try:
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__  # whoever forked may have put others there
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(file, stream)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if limits.memory is not None:
            most = held() + int(limits.memory * 2**30)
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
        code = task() or 0
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def held() -> int:
    """Bytes of address space that this process has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def preload() -> None:
    """Load what every command needs, on one thread: a forked process has no other threads."""
    import torch

    torch.set_num_threads(1)
    import diffusers.models  # noqa: F401
    import safetensors.torch  # noqa: F401

    import unlearn_core.cli.main
    import unlearn_core.standalone.model  # noqa: F401
