"""Fit a run into the memory that there is: measure one row, plan the passes, and take the next smaller plan when it
was still too much."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .interfaces import Conditioning, HostModel, UnlearnError

T = TypeVar("T")
GIB = 2**30
SHARE = 0.9
"""Part of the free memory that is planned with; the rest is for what allocators and kernels waste."""
SLACK = 1.25
"""What a pass takes beside what it keeps: gradients on their way back, one layer's intermediate results."""
WORKING = 6
"""A pass without gradient takes this many times the largest tensor that a pass with gradient keeps."""
ON_A_CPU = 32
"""Most rows of a pass without gradient on a CPU: more save no time, and their tensors leave holes in the heap."""
PER_PARAMETER = 24
"""Bytes an adapter's number costs: value, gradient, AdamW's two moments, the running mean and a spare."""


def weight_bytes(modules: Iterable[nn.Module]) -> int:
    """Size of all parameters and buffers."""
    return sum(t.numel() * t.element_size() for m in modules for t in (*m.parameters(), *m.buffers()))


def free_bytes(device: torch.device) -> int | None:
    """What can still be taken on the device, None where nobody knows."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
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
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in ("out of memory", "can't allocate memory")
    )


def release(device: torch.device) -> None:
    """Give back what the work before has left: to the card, and to the system what the C library's heap still holds."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        # glibc keeps what tensors of up to 32 MB leave: without this a fifth of SD1.5's size by the end of a run
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim:
            trim(0)


@dataclass(frozen=True)
class Cost:
    """Bytes of one row, a latent with its prompt.

    kept: what a pass keeps for its way back. kept_checkpointed: the same with gradient checkpointing, the block that
    is computed again included. working: what a pass without gradient takes.
    """

    kept: int
    kept_checkpointed: int
    working: int


def measure(run: Callable[[], Tensor], backbone: nn.Module) -> Cost:
    """Count what the pass `run`, made with gradient for one row, would keep; the tensors themselves are let go."""
    owned = {t.untyped_storage().data_ptr() for t in (*backbone.parameters(), *backbone.buffers())}
    inside = dict.fromkeys(blocks(backbone), 0)
    current: list[nn.Module] = []
    total, largest = 0, 0

    def keep(t: Tensor) -> None:
        nonlocal total, largest
        size = t.numel() * t.element_size()
        if t.device.type == "meta" or t.untyped_storage().data_ptr() not in owned:
            total, largest = total + size, max(largest, size)
            if current:
                inside[current[-1]] += size

    def give(_: None) -> Tensor:
        raise RuntimeError("this pass was only counted")

    hooks = []
    for block in inside:
        hooks.append(block.register_forward_pre_hook(lambda module, _: current.append(module)))
        hooks.append(block.register_forward_hook(lambda *_: current.clear()))
    try:
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, give):
            run()
    finally:
        for hook in hooks:
            hook.remove()
    between = total - sum(inside.values())
    again = max(inside.values(), default=0)
    # each block also keeps its input, which is no larger than the largest tensor of the pass
    return Cost(total, between + again + len(inside) * largest // 4, WORKING * largest)


@dataclass(frozen=True)
class Plan:
    """How a step is made: `pairs` forget rows with as many replay rows in one pass, as many passes as it takes.

    needed: bytes on the device beside what lay there before; budget: what may be used, None: unknown.
    """

    pairs: int
    passes: int
    checkpointing: bool
    offload: bool
    needed: int
    budget: int | None

    def sentence(self) -> str:
        """The plan in words."""
        passes = "one pass" if self.passes == 1 else f"{self.passes} passes"
        extras = [
            words
            for words, on in (
                ("gradient checkpointing", self.checkpointing),
                ("text encoder and autoencoder off the card", self.offload),
            )
            if on
        ]
        room = "" if self.budget is None else f" of {self.budget / GIB:.1f}"
        return (
            ", ".join([f"{passes} of {self.pairs} forget and {self.pairs} replay rows a step", *extras])
            + f"; about {self.needed / GIB:.1f}{room} GiB on top of the model"
        )


def plans(cost: Cost, batch: int, adapters: int, checkpointing: bool, companions: int) -> list[Plan]:
    """All plans for an effective batch, fastest first.

    adapters: numbers that are learned. checkpointing: wished by the artist anyway. companions: bytes that text
    encoder and autoencoder free when they leave the device, 0 where they cannot.
    """
    made = []
    for again in (True,) if checkpointing else (False, True):
        pairs = batch
        while True:
            passes = -(-batch // pairs)
            row = cost.kept_checkpointed if again else cost.kept
            needed = int(2 * pairs * row * SLACK) + cost.working + adapters * PER_PARAMETER
            made.append(Plan(pairs, passes, again, False, needed, None))
            if companions:
                made.append(Plan(pairs, passes, again, True, needed - companions, None))
            if pairs == 1:
                break
            pairs = -(-pairs // 2)
    return made


class Frugal:
    """A host whose passes without gradient are split so that they fit; everything else is the host's own."""

    def __init__(self, host: HostModel, rows: int | None = None):
        self._host, self.rows = host, rows

    def __getattr__(self, name: str) -> Any:
        return getattr(self._host, name)

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


class Pace:
    """The plan of a run and the smaller ones behind it.

    rows: of a pass without gradient that fit, None for any number.
    """

    def __init__(self, host: HostModel, made: list[Plan], budget: int | None, working: int = 0):
        self._host = host
        limits = [ON_A_CPU] if host.device.type == "cpu" else []
        if working and budget is not None:
            limits.append(max(1, budget // working))
        self.rows = min(limits, default=None)
        fitting = [i for i, p in enumerate(made) if budget is None or p.needed <= budget]
        first = fitting[0] if fitting else len(made) - 1
        self._left = [replace(p, budget=budget) for p in made[first:]]
        self._use()

    @property
    def plan(self) -> Plan:
        """The one in use."""
        return self._left[0]

    def _use(self) -> None:
        if self.plan.offload and hasattr(self._host, "offload"):
            self._host.offload = True

    def attempt(self, step: Callable[[Plan], T], undo: Callable[[], None]) -> T:
        """`step` with the plan in use, again with the next smaller one each time that the memory was full.

        undo: takes back what a failed step has left. Raises `UnlearnError` when no smaller plan is left.
        """
        while True:
            try:
                return step(self.plan)
            except (RuntimeError, MemoryError) as e:
                if not is_out_of_memory(e):
                    raise
            undo()
            release(self._host.device)
            now = self.plan
            # one that was thought to need as much would fail as well
            self._left = [p for p in self._left[1:] if p.needed < now.needed]
            if not self._left:
                self._left = [now]
                raise UnlearnError(
                    "The memory is full even with one row at a time: free some, or choose a smaller resolution."
                )
            self._use()


def paced(host: HostModel, backbone: nn.Module, batch: int, adapters: int, checkpointing: bool, gib: float) -> Pace:
    """Measure one row on the host and plan.

    adapters: numbers that will be learned; gib: memory that the whole job may take on the device in GiB, 0 for what
    is free now.
    """
    x = torch.zeros(1, *host.latent_shape, device=host.device, requires_grad=True)
    top = host.sigmas[-1:]
    cost = measure(lambda: host.denoise(x, top, host.encode([""])), backbone)
    aside = 0 if getattr(host, "offload", True) or host.device.type == "cpu" else weight_bytes(host.companions)
    free = free_bytes(host.device)
    budget = None if free is None else int(free * SHARE)
    if gib:
        given = int(gib * GIB) - weight_bytes([backbone]) - aside
        budget = given if budget is None else min(budget, given)
    return Pace(host, plans(cost, batch, adapters, checkpointing, aside), budget, cost.working)


def blocks(module: nn.Module) -> list[nn.Module]:
    """The innermost members of lists that are made of several parts: residual and transformer blocks, in any layout."""
    found = []
    for child in module.children():
        inner = blocks(child)
        if inner:
            found += inner
        elif isinstance(module, (nn.ModuleList, nn.Sequential)) and len(list(child.children())) > 1:
            found.append(child)
    return found


@contextmanager
def checkpointed(backbone: nn.Module, on: Callable[[], bool]) -> Iterator[None]:
    """Compute each block's inner activations again when they are needed, while `on()` says so; undone at the end."""
    found = [(block, vars(block).get("forward")) for block in blocks(backbone)]
    try:
        for block, _ in found:
            block.forward = partial(forward_again, block.forward, on)
        yield
    finally:
        for block, own in found:
            if own is None:
                vars(block).pop("forward", None)
            else:
                block.forward = own


def forward_again(forward: Callable, on: Callable[[], bool], *args: Any, **kwargs: Any) -> Any:
    """A block's forward, checkpointed or not."""
    if not on():
        return forward(*args, **kwargs)
    # the re-entrant kind gives no gradient to adapters when the block's input needs none
    return checkpoint(forward, *args, use_reentrant=False, **kwargs)
