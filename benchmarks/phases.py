"""Where the time of a whole forget run goes."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from unlearn_core.config import ForgetConfig
from unlearn_core.host import HostModel
from unlearn_core.method.forget import forget
from unlearn_core.progress import StepReport
from unlearn_core.recipe import Recipe

KIND = {"sampling": "sampling", "replay": "sampling", "before": "checking", "after": "checking"}
"""What a run's phases count as; the others by their own names."""


class Clock:
    """Sums up seconds by kind of work from a run's reports."""

    def __init__(self):
        self.seconds = dict.fromkeys(("sampling", "choosing", "editing", "training", "checking", "preview"), 0.0)
        self._at, self._phase, self._done = time.perf_counter(), "sampling", 0

    def see(self, report: StepReport) -> None:
        """Book the time since the last report; in training one without a step more is a look of the check."""
        same = report.phase == self._phase
        looked = same and report.phase == "training" and report.done == self._done
        self.book("checking" if looked else KIND.get(self._phase, self._phase))
        self._phase, self._done = report.phase, report.done

    def book(self, kind: str) -> None:
        """Everything since the last call was work of this kind."""
        now = time.perf_counter()
        self.seconds[kind] += now - self._at
        self._at = now


def phases(
    host: HostModel, config: ForgetConfig, recipes: Mapping[str, Recipe] | None = None
) -> tuple[dict[str, float], int]:
    """(seconds of a whole run by kind of work, see `Clock`; steps made). recipes: as of `forget`."""
    clock = Clock()
    result = forget(host, config, progress=clock.see, recipes=recipes)
    clock.book("preview")
    return clock.seconds, result.report["steps"]


def bits(module: nn.Module) -> str:
    """A hash of every bit of a network's weights; on a card of a sum over each tensor, in which every bit counts."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in module.state_dict().items():
        flat = tensor.detach().contiguous().view(-1)
        digest.update(name.encode())
        digest.update(sum_of_bits(flat) if flat.is_cuda else flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def sum_of_bits(flat: Tensor) -> bytes:
    """Each number's bits times an odd number of its own, modulo 2^64, so that one that changes changes the sum.

    flat: `[n]`. Bringing a large network's weights to the CPU would take longer than what is measured.
    """
    whole = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[flat.element_size()]
    places = 2 * torch.arange(len(flat), device=flat.device) + 1
    return int((flat.view(whole).long() * places).sum()).to_bytes(8, "little", signed=True)
