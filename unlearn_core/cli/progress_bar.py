"""Progress bars of the command line."""

from __future__ import annotations

import sys
import time
from contextlib import suppress

from tqdm import tqdm

from ..progress import StepReport


class Console:
    """Standard error for bars: when nobody hears it any more (a closed terminal, `2>&1 | head`) the work goes on."""

    def __init__(self) -> None:
        self._stream = sys.stderr
        self.encoding = getattr(self._stream, "encoding", None) or "ascii"

    def write(self, text: str) -> None:
        """Show it, if anybody is there."""
        with suppress(OSError, ValueError, AttributeError):
            self._stream.write(text)

    def flush(self) -> None:
        """Show it now."""
        with suppress(OSError, ValueError, AttributeError):
            self._stream.flush()

    def isatty(self) -> bool:
        """Whether a person looks on."""
        return bool(self._stream and self._stream.isatty())

    def fileno(self) -> int:
        """Of the stream, by which the width of the window is found."""
        return self._stream.fileno()


class Bar:
    """One bar over the whole job: phase, loss and time left."""

    def __enter__(self) -> Bar:
        self._shown, self._phase = 0.0, ""
        console = Console()
        self._bar = tqdm(
            total=100.0,
            bar_format="{desc} {percentage:3.0f}%|{bar}| {postfix}",
            ascii=not console.encoding.lower().startswith("utf"),
            file=console,
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
    """A bar for work that is counted; total: all of it, where that is known."""

    def __init__(self, what: str, total: int | None = None):
        self._what, self._total = what, total

    def __enter__(self) -> Counter:
        self._bar = tqdm(desc=self._what, total=self._total, unit=" steps", file=Console(), ascii=True)
        return self

    def tick(self) -> None:
        """One step more."""
        self._bar.update()

    def __exit__(self, failure: object, *_: object) -> None:
        if self._total and not failure:
            # what was drawn before and remembered is not counted again
            self._bar.update(self._total - self._bar.n)
        self._bar.close()
