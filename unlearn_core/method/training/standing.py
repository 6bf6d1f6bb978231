"""Where a training stands, kept every few seconds in the run's saved work, so that one that was killed goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ...saved_work import Snapshot
from ..adapters import Adapters, Average
from ..run import Run
from .memory import Pace

Losses = dict[str, float]


class Standing:
    """All that changes from step to step: adapters, their mean, the optimizer, the chances of the next batch, losses.

    done: steps of an earlier run. They are gone through again without their work, from the losses that they had, so
    that the schedule takes the same way and looks where it looked.
    """

    def __init__(self, run: Run, learned: tuple[Adapters, Average, torch.optim.Optimizer, torch.Generator], pace: Pace):
        self.adapters, self.average, self.optimizer, self.generator = learned
        self._pace, self._job = pace, run.job
        self._losses: list[Losses] = []
        self._seconds = 0.0
        self._snapshot: Snapshot | None = run.saved.snapshot()
        self.done = self._restored() if self._snapshot else 0

    def losses(self, number: int, make: Callable[[], Losses]) -> Losses:
        """Of a step: those it had, else those that `make` gives, which makes it."""
        if self._snapshot:
            # the last one of the earlier run may still have had to be looked at, by the model as it is now
            self._snapshot.replay(number < self.done)
        if number > self.done:
            begun = time.monotonic()
            self._losses.append(make())
            self.average.update()
            self._seconds += time.monotonic() - begun
        return self._losses[number - 1]

    def replaying(self, number: int) -> bool:
        """Whether a step lies before where the earlier run had come to."""
        return number < self.done

    def keep(self, now: bool = False) -> None:
        """Keep where it stands, if it is time to or `now`."""
        if self._snapshot and len(self._losses) > self.done:
            self._snapshot.write(self._facts, self._tensors, now)

    def _facts(self) -> dict[str, Any]:
        plan = self._pace.plan
        return {"losses": self._losses, "plan": [plan.pairs, plan.checkpointing], "seconds": self._seconds}

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {"generator": self.generator.get_state()}
        for number, (p, mean) in enumerate(zip(self.adapters.parameters(), self.average.means, strict=True)):
            tensors |= {f"{number}.value": p, f"{number}.mean": mean}
            tensors |= {f"{number}.optimizer.{name}": t for name, t in self.optimizer.state[p].items()}
        return tensors

    def _restored(self) -> int:
        """Put everything back as an earlier run has left it; the number of its steps, 0 where there was none."""
        assert self._snapshot is not None
        if not (found := self._snapshot.read()):
            return 0
        facts, tensors = found
        self._losses = [{str(name): float(v) for name, v in row.items()} for row in facts["losses"]]
        self._seconds = float(facts["seconds"])
        self._pace.go_on_with(*facts["plan"])
        self.generator.set_state(tensors["generator"])
        state: dict[int, dict[str, Tensor]] = {}
        with torch.no_grad():
            for number, (p, mean) in enumerate(zip(self.adapters.parameters(), self.average.means, strict=True)):
                p.copy_(tensors[f"{number}.value"])
                mean.copy_(tensors[f"{number}.mean"])
                start = f"{number}.optimizer."
                state[number] = {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        self.average.go_on_from(len(self._losses))
        self._job.spare(self._seconds, f"going on from step {len(self._losses)}")
        return len(self._losses)
