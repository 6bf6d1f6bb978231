"""Fit a training into the memory: measure one row, plan the passes, take a smaller plan when it was too much."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from ...config import ForgetConfig
from ...device_memory import GIB, ON_A_CPU, free_bytes, is_out_of_memory, release, weight_bytes
from ...errors import UnlearnError
from ...host import HostModel, OffloadingHost
from .checkpointing import blocks

T = TypeVar("T")
SHARE = 0.9
"""Part of the free memory that is planned with; the rest is for what allocators and kernels waste."""
SLACK = 1.25
"""What a pass takes beside what it keeps: gradients on their way back, one layer's intermediate results."""
WORKING = 6
"""A pass without gradient takes this many times the largest tensor that a pass with gradient keeps."""
PER_PARAMETER = 24
"""Bytes an adapter's number costs: value, gradient, AdamW's two moments, the running mean and a spare."""


@dataclass(frozen=True)
class Cost:
    """Bytes of one row, a latent with its prompt.

    kept: what a pass keeps for its way back. kept_checkpointed: the same with gradient checkpointing, the block that
    is computed again included. working: what a pass without gradient takes.
    """

    kept: int
    kept_checkpointed: int
    working: int


def storages(tensor: Tensor) -> list[int]:
    """Where a tensor's numbers lie; one of a class that packs them has them in other tensors."""
    if not hasattr(tensor, "__tensor_flatten__"):
        return [tensor.untyped_storage().data_ptr()]
    names, _ = tensor.__tensor_flatten__()
    return [place for name in names for place in storages(getattr(tensor, name))]


def measure(run: Callable[[], Tensor], backbone: nn.Module) -> Cost:
    """Count what the pass `run`, made with gradient for one row, would keep; the tensors themselves are let go."""
    owned: set[int] = set()
    inside = dict.fromkeys(blocks(backbone), 0)
    current: list[nn.Module] = []
    total, largest = 0, 0

    def keep(t: Tensor) -> None:
        nonlocal total, largest
        size = t.numel() * t.element_size()
        if not owned:
            # not before: a host may bring its weights back to the device for this pass
            owned.update(place for w in (*backbone.parameters(), *backbone.buffers()) for place in storages(w))
        if t.device.type == "meta" or not owned.issuperset(storages(t)):
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


class Pace:
    """The plan of a training and the smaller ones behind it."""

    def __init__(self, host: HostModel, made: list[Plan], budget: int | None):
        self._host = host
        fitting = [i for i, p in enumerate(made) if budget is None or p.needed <= budget]
        first = fitting[0] if fitting else len(made) - 1
        self._left = [replace(p, budget=budget) for p in made[first:]]
        self._use()

    @property
    def plan(self) -> Plan:
        """The one in use."""
        return self._left[0]

    def go_on_with(self, pairs: int, checkpointing: bool) -> None:
        """The plan of an earlier run, where it is among those that fit: the sums of other passes round otherwise."""
        same = [i for i, p in enumerate(self._left) if (p.pairs, p.checkpointing) == (pairs, checkpointing)]
        if same and same[0]:
            self._left = self._left[same[0] :]
            self._use()

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
                    "Out of memory even at batch size 1. Close other programs or choose a smaller resolution."
                )
            self._use()


def row_cost(host: HostModel, backbone: nn.Module, see: Callable[[Tensor], None] = lambda answer: None) -> Cost:
    """Measure one row on a host. see: gets the model's answer to it."""
    x = torch.zeros(1, *host.latent_shape, device=host.device, requires_grad=True)
    top = host.sigmas[-1:]

    def row() -> Tensor:
        answer = host.denoise(x, top, host.encode([""]))
        see(answer.detach())
        return answer

    return measure(row, backbone)


def companion_bytes(host: HostModel) -> int:
    """What the text encoder and the autoencoder would free on the device, 0 where they cannot leave it."""
    if getattr(host, "offload", True) or host.device.type == "cpu":
        return 0
    return weight_bytes(cast(OffloadingHost, host).companions)


def budget_of(host: HostModel, backbone: nn.Module, gib: float) -> int | None:
    """Bytes that may be used on the device beside what lies there, None where nobody knows.

    gib: what the whole run may take in GiB, 0 for what is free now.
    """
    free = free_bytes(host.device)
    budget = None if free is None else int(free * SHARE)
    if gib:
        given = int(gib * GIB) - weight_bytes([backbone]) - companion_bytes(host)
        budget = given if budget is None else min(budget, given)
    return budget


def rows_at_once(host: HostModel, backbone: nn.Module, cost: Cost, gib: float) -> int | None:
    """Rows of a pass without gradient that fit, None for any number. gib: as of `budget_of`."""
    limits = [ON_A_CPU] if host.device.type == "cpu" else []
    budget = budget_of(host, backbone, gib)
    if cost.working and budget is not None:
        limits.append(max(1, budget // cost.working))
    return min(limits, default=None)


def paced(host: HostModel, backbone: nn.Module, cost: Cost, learned: int, config: ForgetConfig) -> Pace:
    """The plan of a training. learned: numbers that will be learned."""
    made = plans(cost, config.batch, learned, config.checkpointing, companion_bytes(host))
    return Pace(host, made, budget_of(host, backbone, config.memory))
