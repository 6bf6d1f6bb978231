"""Work that goes on whether a page looks or not: one job at a time, its state kept on the server."""

from __future__ import annotations

import secrets
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..unlearn_core import Cancelled, StepReport, UnlearnError
from ..unlearn_core.progress import Estimate

WAITING, RUNNING, DONE, STOPPED, FAILED = "waiting", "running", "done", "stopped", "failed"
FINISHED = (DONE, STOPPED, FAILED)
REMEMBERED = 20
"""Finished jobs that can still be asked for."""


class Busy(UnlearnError):
    """Another job is running."""


@dataclass(frozen=True)
class View:
    """What a page shows of a job at one moment.

    losses: (step, forget, replay) of each training step. pictures: what the model generates of the target now, as the
    work's own objects. result: what the work returned. notes: sentences about what was asked for. fraction: 0..1; times
    in seconds.
    """

    id: str
    kind: str
    title: str
    state: str = WAITING
    phase: str = ""
    message: str = ""
    done: int = 0
    total: int = 0
    fraction: float = 0.0
    seconds: float = 0.0
    seconds_left: float | None = None
    stopping: bool = False
    losses: tuple[tuple[int, float, float], ...] = ()
    pictures: Any = None
    about: str = ""
    error: str = ""
    result: Any = None
    notes: tuple[str, ...] = ()

    @property
    def finished(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in FINISHED


class Job:
    """One piece of work in a thread of its own. `hear` is its progress callback for the core.

    picture: turns `StepReport.latents` into something to show; a failure there is not one of the work.
    interrupted: asked at each report, True when the host's own stop button was pressed.
    """

    def __init__(self, kind: str, title: str, notes: Sequence[str] = ()):
        self._view = View(secrets.token_hex(8), kind, title, notes=tuple(notes))
        self._lock = threading.Lock()
        self._discard, self._part, self._stage = False, (0, 1), (0.0, 1.0)
        self._estimate, self._counted = Estimate(), ("", 0, 0, 0.0)
        self._begun = self._part_begun = time.monotonic()
        self._spared = 0.0
        self.picture: Callable[[Any], Any] | None = None
        self.interrupted: Callable[[StepReport], bool] = lambda _: False

    @property
    def id(self) -> str:
        """A name that cannot be guessed."""
        return self._view.id

    def view(self) -> View:
        """The state now."""
        with self._lock:
            return self._view

    def stop(self, discard: bool = False) -> None:
        """Ask for a stop; it is obeyed within a step. discard: keep nothing of what was learned."""
        self._discard = self._discard or discard
        self._set(stopping=True)

    def begin(self) -> None:
        """The work has all it waited for. Raises `Cancelled` when it was stopped meanwhile."""
        self._begun = self._part_begun = time.monotonic()
        if self.view().stopping:
            raise Cancelled("Stopped before anything was made. The model is unchanged.")
        self._set(state=RUNNING)

    def hear(self, report: StepReport) -> bool:
        """Take in a report of the core; True asks it to stop. Raises `Cancelled` when nothing is to be kept.

        Its times are those of its own work, and the job's are of all that the job does.
        """
        number, count = self._part
        low, high = self._stage
        fraction = (number + low + (high - low) * report.fraction) / count
        # after a stop the work reports that all is done
        fraction = self._view.fraction if self._view.stopping else max(self._view.fraction, fraction)
        seconds = time.monotonic() - self._begun
        counted = (report.phase, report.done, number, low) != self._counted
        self._counted = report.phase, report.done, number, low
        if report.seconds:
            # what the core counts beside the time that it took: work that an earlier run had finished
            self._spared = max(0.0, report.seconds - (time.monotonic() - self._part_begun))
        left = self._estimate.left(fraction, seconds + self._spared, counted)
        report = replace(report, fraction=fraction, seconds=seconds, seconds_left=left)
        new: dict[str, Any] = {
            "phase": report.phase,
            "done": report.done,
            "total": report.total,
            "fraction": report.fraction,
            "seconds": report.seconds,
            "seconds_left": report.seconds_left,
        }
        if report.message:
            new["message"] = report.message
        if "forget" in report.losses:
            point = (report.done, report.losses["forget"], report.losses.get("keep", 0.0))
            new["losses"] = (*self._view.losses, point)
        if report.latents is not None and self.picture:
            try:
                new["pictures"] = self.picture(report.latents)
            except Exception:
                traceback.print_exc()
        self._set(**new)
        if self.interrupted(report) and not self._view.stopping:
            self.stop()
        if self._discard:
            raise Cancelled("Stopped. No delta was saved, as you chose.")
        return self._view.stopping

    def part(self, number: int, count: int, about: str, until: float = 1.0) -> None:
        """Begin one of several runs of a job, which share its bar. about: the concept. until: see `stage`."""
        self._part, self._stage, self._part_begun = (number, count), (0.0, until), time.monotonic()
        self._set(about=about, losses=(), pictures=None)

    def stage(self, until: float) -> None:
        """What is done from now on moves the bar of this run up to here (0..1)."""
        self._stage = self._stage[1], until

    def show(self, result: Any) -> None:
        """A result so far, which stays when the rest of the work fails."""
        self._set(result=result)

    def counter(self, total: int, phase: str = "generating") -> Callable[[], None]:
        """Progress of work that is no `forget`: call it after each of `total` units; a stop raises `Cancelled`."""
        done = 0

        def tick() -> None:
            nonlocal done
            done = min(done + 1, total)
            if self.hear(StepReport(phase, done, total, done / total, 0.0, None)):
                raise Cancelled("Stopped.")

        return tick

    def run(self, work: Callable[[Job], Any]) -> None:
        """Do the work and keep its result, or what went wrong in one sentence."""
        try:
            result = work(self)
            ended = {"state": STOPPED} if self.view().stopping else {"state": DONE, "fraction": 1.0}
            self._set(result=result, seconds_left=None, **ended)
        except Cancelled as e:
            self._set(state=STOPPED, error=str(e))
        except UnlearnError as e:
            self._set(state=FAILED, error=str(e))
        except MemoryError:
            self._set(state=FAILED, error=NO_MEMORY)
        except BaseException as e:
            # also what would end a program: no job may look busy for good
            traceback.print_exc()
            self._set(state=FAILED, error=in_one_sentence(e))
        finally:
            self.picture = None

    def _set(self, **new: Any) -> None:
        with self._lock:
            self._view = replace(self._view, **new)


NO_MEMORY = (
    "There is not enough memory. Close other programs, or choose a smaller Batch and Gradient checkpointing under "
    "Training. Then start again. The model is unchanged."
)


def in_one_sentence(error: Exception) -> str:
    """What a person reads about an error that nobody foresaw."""
    if "out of memory" in str(error).lower() or type(error).__name__ == "OutOfMemoryError":
        return NO_MEMORY
    first = (str(error).strip().splitlines() or [""])[0][:300]
    name = f"{type(error).__name__}: {first}" if first else type(error).__name__
    return f"Something unexpected went wrong ({name}). The console has the details. The model is unchanged."


UNSTOPPABLE = {"candidates", "bake"}
"""Kinds of jobs that have no button to stop them: they are short."""


class Jobs:
    """All jobs of this process, the newest ones remembered."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()

    def start(self, kind: str, title: str, work: Callable[[Job], Any], notes: Sequence[str] = ()) -> Job:
        """Start a thread for the work. notes: see `View`. Raises `Busy` while another job runs."""
        with self._lock:
            if running := self.running():
                now = running.view()
                way = "wait until it ends" if now.kind in UNSTOPPABLE else "wait until it ends, or stop it"
                raise Busy(f"Another job is running ({now.title}): {way}.")
            job = Job(kind, title, notes)
            self._jobs[job.id] = job
            for old in list(self._jobs)[:-REMEMBERED]:
                del self._jobs[old]
        threading.Thread(target=job.run, args=(work,), name=f"unlearn {kind}", daemon=True).start()
        return job

    def running(self) -> Job | None:
        """The job that is not finished, or None."""
        return next((j for j in list(self._jobs.values()) if not j.view().finished), None)

    def end(self, seconds: float) -> bool:
        """Stop the job that runs, and wait for it at most so long; whether none is left."""
        if job := self.running():
            job.stop()
            deadline = time.monotonic() + seconds
            while not job.view().finished and time.monotonic() < deadline:
                time.sleep(0.05)
        return self.running() is None

    def get(self, job_id: str) -> Job | None:
        """A job by its name, or None."""
        return self._jobs.get(job_id)

    def newest(self, kind: str) -> Job | None:
        """The last one of a kind that was started, or None."""
        return next((j for j in reversed(list(self._jobs.values())) if j.view().kind == kind), None)
