"""Where the time of a whole forget run goes."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping

import torch
from torch import nn

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
    """A hash of every bit of a network's weights."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
