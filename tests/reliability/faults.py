"""Faults injected at every kind of place where a machine can fail: a full disk, a broken one, no memory, Ctrl-C."""

from __future__ import annotations

import builtins
import errno
import io
import itertools
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from .child import Limits, forked
from .outcome import Outcome
from .scenes import SCENES, Rehearsed, prepare, unfinished

DISK = (errno.ENOSPC, errno.EIO, errno.EACCES)
PLACES: dict[str, tuple[Callable[[], BaseException], ...]] = {
    **{
        place: tuple(lambda number=number: OSError(number, os.strerror(number)) for number in DISK)
        for place in ("open", "write", "fsync", "replace", "mkdir")
    },
    "layer": (MemoryError, lambda: RuntimeError("a fault of the backend"), KeyboardInterrupt),
}
"""{kind of call: what it may raise}."""


@dataclass
class Faults:
    """Counts calls of each kind, and raises at one of them. at: (kind, number of the call), or None: never."""

    at: tuple[str, int] | None = None
    error: Callable[[], BaseException] = OSError
    calls: Counter = field(default_factory=Counter)

    def __call__(self, kind: str) -> None:
        """A call of a kind is about to happen."""
        self.calls[kind] += 1
        if self.at == (kind, self.calls[kind]):
            print("[fault]", flush=True)
            raise self.error()

    def install(self) -> None:
        """Stand before the calls, for the rest of this process."""
        for module, name in ((os, "fsync"), (os, "replace"), (os, "mkdir"), (torch.nn.Linear, "forward")):
            setattr(module, name, self._before(getattr(module, name), "layer" if name == "forward" else name))
        builtins.open = io.open = self._opening(builtins.open)

    def _before(self, call: Callable, kind: str) -> Callable:
        def counted(*args: Any, **options: Any) -> Any:
            self(kind)
            return call(*args, **options)

        return counted

    def _opening(self, opened: Callable) -> Callable:
        def counted(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
            if not set(mode) & set("wxa+") or isinstance(file, int):
                return opened(file, mode, *args, **options)
            self("open")
            stream = opened(file, mode, *args, **options)
            return Writing(stream, self)

        return counted


class Writing:
    """A file whose writes are counted."""

    def __init__(self, stream: Any, faults: Faults):
        self._stream, self._faults = stream, faults

    def write(self, data: Any) -> int:
        """Count it, then write."""
        self._faults("write")
        return self._stream.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __enter__(self) -> Writing:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()


def faults(count: int, folder: Path, tick: Callable[[], None]) -> Outcome:
    """Inject `count` faults, spread over scenes and kinds of calls, at a random call of the kind."""
    rehearsed = [Rehearsed.of(scene, folder / "rehearsal") for scene in SCENES]
    counted = [calls_of(scene, folder / "counting") for scene in rehearsed]
    outcome = Outcome("faults", count)
    for number, (index, kind, at, error) in enumerate(itertools.islice(planned(counted), count)):
        place = folder / f"run {number}"
        wrong = struck(rehearsed[index], place, Faults((kind, at), error))
        what = f"{rehearsed[index].scene.name}: call {at} of {kind} raises {error()!r}"
        outcome.note(what, wrong)
        shutil.rmtree(place)
        tick()
    return outcome


def planned(counted: list[Counter]) -> Iterator[tuple[int, str, int, Callable[[], BaseException]]]:
    """(scene, kind, number of the call, error), without end, each scene and kind in turn."""
    draw = random.Random(0)
    for turn in itertools.count():
        for index, calls in enumerate(counted):
            for kind, errors in PLACES.items():
                if calls[kind]:
                    yield index, kind, draw.randint(1, calls[kind]), errors[turn % len(errors)]


def calls_of(scene: Rehearsed, place: Path) -> Counter:
    """How often an undisturbed run makes each kind of call."""
    prepare(place)
    found = place.with_suffix(".calls")

    def task() -> int:
        seen = Faults()
        opened = os.open(found, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        seen.install()
        code = scene.scene.run_in(place)
        os.write(opened, " ".join(f"{kind} {n}" for kind, n in seen.calls.items()).encode())
        return code

    forked(task)
    shutil.rmtree(place)
    words = found.read_text().split()
    return Counter({kind: int(n) for kind, n in zip(words[::2], words[1::2], strict=True)})


def struck(scene: Rehearsed, place: Path, fault: Faults) -> list[str]:
    """What is wrong after a run with a fault in it."""
    prepare(place)

    def task() -> int:
        fault.install()
        return scene.scene.run_in(place)

    ended = forked(task, Limits(), place.with_suffix(".log"))
    wrong = scene.losses(place)
    if "[fault]" not in ended.text:
        wrong.append("the call did not come")
    said = ended.text.replace("[fault]", "").strip()
    if not ended.clean or not said:
        wrong.append(f"ended with {ended.code} and not in a sentence: {said[-300:]}")
    return wrong + [f"{n} is left behind" for n in unfinished(place)] + scene.once_more(place, Limits())
