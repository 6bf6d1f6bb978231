"""What a checked run costs, whatever the machine: rows that went through the denoiser, by the run's phases."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from unlearn_core.config import ForgetConfig
from unlearn_core.delta.stack import Stack
from unlearn_core.method.forget import Result, forget
from unlearn_core.progress import StepReport
from unlearn_core.standalone.model import StandaloneModel

from .row_passes import Rows, rows_counted


@dataclass
class Counted:
    """One run: rows and seconds of each phase, in the order in which they began, and what came of it."""

    rows: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    result: Result | None = None

    @property
    def total(self) -> int:
        """Rows of the whole run."""
        return sum(self.rows.values())


class Phases:
    """A run's progress: work between two reports belongs to the phase of the first of them."""

    def __init__(self, rows: Rows):
        self._rows, self._seen, self._at = rows, rows.count, time.monotonic()
        self._phase = "opening"
        self.found = Counted()

    def __call__(self, report: StepReport) -> None:
        """One report of the run."""
        self.end()
        self._phase = report.phase

    def end(self) -> None:
        """Count what was done since the last report."""
        now, count = time.monotonic(), self._rows.count
        for table, spent in ((self.found.rows, count - self._seen), (self.found.seconds, now - self._at)):
            table[self._phase] = table.get(self._phase, 0) + spent
        self._seen, self._at = count, now


def counted(host: StandaloneModel, config: ForgetConfig, stack: Stack | None = None) -> Counted:
    """A run with its check."""
    with rows_counted(host.backbone) as rows:
        phases = Phases(rows)
        phases.found.result = forget(host, config, stack, phases)
        phases.end()
    return phases.found


def one_after_the_other(host: StandaloneModel, configs: Sequence[ForgetConfig]) -> list[Counted]:
    """Requests on the same base, each on its own, with what the earlier ones have remembered."""
    with tempfile.TemporaryDirectory() as folder:
        host.cache_folder = Path(folder)
        return [counted(host, config) for config in configs]


def table(runs: Sequence[tuple[str, Counted]]) -> str:
    """Rows and seconds by phase, a run a column."""
    phases = list(dict.fromkeys(phase for _, run in runs for phase in run.rows))
    lines = ["phase     " + "".join(f"{name:>22}" for name, _ in runs)]
    for phase in phases:
        cells = (f"{run.rows.get(phase, 0):6} rows {run.seconds.get(phase, 0.0):7.1f} s" for _, run in runs)
        lines.append(f"{phase:10}" + "".join(f"{cell:>22}" for cell in cells))
    whole = (f"{run.total:6} rows {sum(run.seconds.values()):7.1f} s" for _, run in runs)
    return "\n".join([*lines, f"{'together':10}" + "".join(f"{cell:>22}" for cell in whole)])
