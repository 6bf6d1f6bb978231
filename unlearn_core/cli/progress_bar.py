"""Progress bars of the command line."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

from ..progress import StepReport


class Bar:
    """One bar over the whole job: phase, loss and time left."""

    def __enter__(self) -> Bar:
        self._shown, self._phase = 0.0, ""
        self._bar = tqdm(
            total=100.0,
            bar_format="{desc} {percentage:3.0f}%|{bar}| {postfix}",
            ascii=not (sys.stderr.encoding or "").lower().startswith("utf"),
            file=sys.stderr,
        )
        return self

    def show(self, report: StepReport, fraction: float | None = None) -> None:
        """Move the bar, at most ten times a second (its own economy would leave slow phases standing still).

        fraction: of several jobs, where the report is one of them.
        """
        now = time.monotonic()
        if now - self._shown < 0.1 and report.phase == self._phase and report.fraction < 1:
            return
        self._shown, self._phase = now, report.phase
        self._bar.set_description_str(f"{report.phase:9}", refresh=False)
        loss = " ".join(f"{k} {v:.4f}" for k, v in report.losses.items() if k in ("forget", "keep"))
        left = "" if report.seconds_left is None or fraction is not None else f"{report.seconds_left:.0f} s left"
        self._bar.set_postfix_str(", ".join(t for t in (loss, left) if t), refresh=False)
        self._bar.n = 100 * (report.fraction if fraction is None else fraction)
        self._bar.refresh()

    def __exit__(self, *_: object) -> None:
        self._bar.close()


class Counter:
    """A bar for work whose length is not known."""

    def __init__(self, what: str):
        self._what = what

    def __enter__(self) -> Counter:
        self._bar = tqdm(desc=self._what, unit=" batches", file=sys.stderr, ascii=True)
        return self

    def tick(self) -> None:
        """One batch more."""
        self._bar.update()

    def __exit__(self, *_: object) -> None:
        self._bar.close()
