"""A hundred requests in one process of ComfyUI and one of the tab: memory, handles, threads and speed stay flat."""

from __future__ import annotations

import html
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from .child import worked
from .outcome import Outcome

CONCEPTS = ("banana", "cat", "dog", "frog", "bus")
WARM = 10
"""Cycles at the beginning that do not count, at most half of all: caches fill, code is loaded."""
MOST = {"memory, MiB": 1.10, "handles": 1.05, "threads": 1.05, "seconds of work": 1.25}
"""{what is measured: by what the last cycles may exceed the first ones}."""


@dataclass(frozen=True)
class State:
    """Of a process after a cycle. seconds: of the processor, since other programs take their share of the clock's."""

    memory: float
    handles: int
    threads: int
    seconds: float

    @classmethod
    def of(cls, process: psutil.Process, begun: float) -> State:
        """Now; begun: what `worked` was before the cycle."""
        handles = process.num_handles() if sys.platform == "win32" else process.num_fds()
        return cls(process.memory_info().rss / 2**20, handles, process.num_threads(), worked(process) - begun)

    @property
    def values(self) -> dict[str, float]:
        """By the names of `MOST`."""
        return dict(zip(MOST, (self.memory, self.handles, self.threads, self.seconds), strict=True))


def soak(count: int, folder: Path, tick: Callable[[], None]) -> Outcome:
    """`count` requests in each of the two programs."""
    outcome = Outcome("soak", 2 * len(MOST), counted={"cycles": count})
    for name, cycles in {"ComfyUI": comfy, "tab": tab}.items():
        folder.mkdir(parents=True, exist_ok=True)
        states = []
        for state in cycles(folder / name, count):
            states.append(state)
            tick()
        judge(name, states, outcome)
    return outcome


def judge(name: str, states: list[State], outcome: Outcome) -> None:
    """Compare the last tenth of the cycles with the first tenth after the warm ones."""
    kept = states[min(WARM, len(states) // 2) :]
    tenth = max(1, len(kept) // 10)
    for what, most in MOST.items():
        first, last = (statistics.median(s.values[what] for s in part) for part in (kept[:tenth], kept[-tenth:]))
        outcome.counted |= {f"{name}: {what}, first": round(first, 2), f"{name}: {what}, last": round(last, 2)}
        grown = last > most * first
        outcome.note(f"{name}: {what}", [f"{first:.2f} became {last:.2f}"] if grown else [])


def comfy(folder: Path, count: int) -> Iterator[State]:
    """Forget Concept on the demo model, with another seed each time so that nothing comes from a cache."""
    from tests.comfy.server import Server
    from tests.comfy.sources import NEWEST
    from tests.comfy.workflows import DEMO, QUICK, forgetting

    folder.mkdir()
    with Server(NEWEST, folder) as server, server.client() as page:
        process = psutil.Process(server.process.pid)
        for number in range(count):
            begun = worked(process)
            target = CONCEPTS[number % len(CONCEPTS)]
            page.run(forgetting(DEMO, target, side=64, **{**QUICK, "anchor": "guitar", "seed": number}))
            page.events.clear()
            yield State.of(process, begun)


def tab(folder: Path, count: int) -> Iterator[State]:
    """The Start button of the tab's own page; each delta comes off the stack again."""
    from tests.webui.app import App
    from tests.webui.environments import python_with
    from tests.webui.page_client import PageClient

    folder.mkdir()
    with App(python_with("gradio4"), folder) as app:
        page, process = PageClient(app.address), psutil.Process(app.process.pid)
        for number in range(count):
            begun = worked(process)
            page.fields |= {"unlearn_concept": CONCEPTS[number % len(CONCEPTS)], "unlearn_quality": "quick"}
            page.press("unlearn_start")
            while page.fields["unlearn_forget_timer"]:
                time.sleep(0.1)
                page.press("unlearn_forget_poll")
            assert "Forget" in html.unescape(page.fields["unlearn_result"]), page.fields["unlearn_status"]
            yield State.of(process, begun)
            for file in (*folder.glob("*.safetensors"), *folder.glob("*.json")):
                file.unlink()
