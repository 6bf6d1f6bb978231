"""What a device's memory holds, and passes that are split so that they fit."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from .host import Conditioning, HostModel, OffloadingHost
from .saved_work import NOTHING, NoSavedWork

GIB = 2**30
ON_A_CPU = 32
"""Most rows of a pass without gradient on a CPU: more save no time, and their tensors leave holes in the heap."""
FULL = (
    *("out of memory", "can't allocate memory", "not enough memory", "Invalid buffer size", "STATUS_ALLOC_FAILED"),
    *("could not create a primitive", "could not create a memory"),
)
"""What errors of full memory say: of cards, of Linux and macOS, of Windows, of MPS, of CUDA's libraries, of oneDNN."""


def weight_bytes(modules: Iterable[nn.Module]) -> int:
    """Size of all parameters and buffers."""
    return sum(t.numel() * t.element_size() for m in modules for t in (*m.parameters(), *m.buffers()))


def free_bytes(device: torch.device) -> int | None:
    """What can still be taken on the device, None where nobody knows."""
    if device.type == "cuda":
        # older torch takes no "cuda" without a number here, which is what Automatic1111 calls its card
        index = torch.cuda.current_device() if device.index is None else device.index
        cached = torch.cuda.memory_reserved(index) - torch.cuda.memory_allocated(index)
        return torch.cuda.mem_get_info(index)[0] + cached
    if device.type == "cpu":
        try:
            lines = Path("/proc/meminfo").read_text("ascii").splitlines()
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
        except (OSError, StopIteration, ValueError, IndexError):
            return None
    return None


def is_tight(modules: Iterable[nn.Module], device: torch.device) -> bool:
    """Whether these networks together would fill more than half of a GPU's free memory."""
    free = free_bytes(device) if device.type == "cuda" else None
    return free is not None and 2 * weight_bytes(modules) > free


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that the device's memory is full."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in FULL)


def release(device: torch.device, young: bool = False) -> None:
    """Give back what the work before has left: to the card, and to the system what the C library's heap still holds.

    young: look for cycles among new objects alone; among all of a host's, which it has had for long, it takes part of
    a second.
    """
    gc.collect(1 if young else 2)
    if device.type == "cuda":
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        # glibc keeps what tensors of up to 32 MB leave: without this a fifth of SD1.5's size by the end of a run
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim:
            trim(0)


class SmallPasses:
    """A host whose passes without gradient are split so that they fit; everything else is the host's own.

    rows: most rows of a pass. saved: where what is drawn and read on it is kept.
    """

    def __init__(self, host: HostModel, rows: int | None = None, saved: NoSavedWork = NOTHING):
        self._host, self.rows, self.saved = host, rows, saved

    def __getattr__(self, name: str) -> Any:
        return getattr(self._host, name)

    @property
    def offload(self) -> bool:
        """Whether text encoders and autoencoder come to the device only while they are used, where the host can."""
        return cast(OffloadingHost, self._host).offload

    @offload.setter
    def offload(self, on: bool) -> None:
        cast(OffloadingHost, self._host).offload = on

    def denoise(self, x: Tensor, sigma: Tensor, conditioning: Conditioning) -> Tensor:
        """The host's `denoise`; without gradient at most `rows` at once, and fewer when the memory is full."""
        if torch.is_grad_enabled():
            return self._host.denoise(x, sigma, conditioning)
        done: list[Tensor] = []
        start, rows = 0, min(self.rows or len(x), len(x))
        while start < len(x):
            part = slice(start, start + rows)
            try:
                done.append(self._host.denoise(x[part], sigma[part], conditioning[part]))
                start += rows
                continue
            except (RuntimeError, MemoryError) as e:
                if not is_out_of_memory(e) or rows == 1:
                    raise
            release(x.device)
            self.rows = rows = -(-rows // 2)
        return done[0] if len(done) == 1 else torch.cat(done)


@contextmanager
def offload_restored(host: HostModel) -> Iterator[None]:
    """What a training in a small memory has taken off the device is there again at the end of the block, if it fits."""
    before = getattr(host, "offload", True)
    try:
        yield
    finally:
        if not before and getattr(host, "offload", False):
            release(host.device)
            try:
                cast(OffloadingHost, host).offload = False
            except (RuntimeError, MemoryError) as e:
                # half of it may be there
                cast(OffloadingHost, host).offload = True
                if not is_out_of_memory(e):
                    raise


def small_passes(host: HostModel) -> HostModel:
    """The same host for work outside a run: its passes are split so that they fit; where they are, it stays as it is.

    On a GPU the first passes are as large as they are asked for: what a row takes is measured in a run alone.
    """
    if isinstance(host, SmallPasses):
        return host
    return SmallPasses(host, ON_A_CPU if host.device.type == "cpu" else None)


def peak_memory_mb() -> float | None:
    """Most memory used so far: of the GPU where one is used, else of the process; None where unknown."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        import resource
    except ImportError:
        return None
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
