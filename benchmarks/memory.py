"""Peak memory of one piece of work, not of the whole process's life."""

from __future__ import annotations

from pathlib import Path

import torch

from unlearn_core.device_memory import peak_memory_mb

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def start_peak() -> None:
    """Forget the peak so far, where the system can."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    try:
        RESET.write_text("5")  # proc(5): resets the peak resident set size
    except OSError:
        return


def peak_mb() -> float | None:
    """Most memory used since `start_peak`; on systems without it since the process began, None where unknown."""
    if torch.cuda.is_available():
        return peak_memory_mb()
    return status_mb("VmHWM") or peak_memory_mb()


def now_mb() -> float | None:
    """Memory used now, of the GPU where one is used, else of the process; None where unknown."""
    if torch.cuda.is_available() and torch.cuda.memory_allocated():
        return torch.cuda.memory_allocated() / 2**20
    return status_mb("VmRSS")


def status_mb(field: str) -> float | None:
    """A line of the system's account of this process."""
    try:
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
        return int(line.split()[1]) / 2**10
    except (OSError, StopIteration, ValueError):
        return None
