"""What a run has finished, kept in a folder until its result is saved, so that a killed or stopped run goes on.

The same request on the same model takes the same way, so nothing but the results of long work is kept: each is called
after a hash of what it was made of and of all that came before it, and is taken from the folder where it is there.
Everything else is made anew, in the same order. Files are read as hostile: what is damaged, of another model, version
or request has another name or another sum, and is made anew too.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from .version import __version__

SUFFIX = ".part"
"""Not that of a LoRA: the folder may lie where hosts look for some."""
OURS = r"[0-9a-f]{32}\.part|\.unlearn-[0-9a-f]{16}\.tmp"
"""Names of the files that are written, and the only ones that are deleted."""
DAYS = 14
"""Saved work that nobody came back to for so long is deleted."""
MOST_BYTES, RESERVE = 2 * 2**30, 2**29
"""What a run may keep, and what it leaves free on the disk for its result."""
SECONDS, SHARE = 20.0, 0.01
"""Least time between two snapshots of a training, and most of the time that writing them may take."""
SUM = 32
"""Bytes of a file's sum, at its beginning; then a table's length in 8 bytes, the table as JSON, and tensors."""

Tensors = dict[str, Tensor]


CACHE_VARIABLE = "UNLEARN_CACHE"
"""A folder for what can be made anew, or "off" for none."""


def cache_folder(default: Path | None = None) -> Path | None:
    """Where what is the same for all requests is kept: as the variable says, else `default` or the user's own cache."""
    named = os.environ.get(CACHE_VARIABLE, "").strip()
    if named:
        return None if named.casefold() == "off" else Path(os.path.expanduser(named))
    if default is not None:
        return default
    home = os.environ.get("LOCALAPPDATA") or os.environ.get("XDG_CACHE_HOME")
    with suppress(RuntimeError):
        return Path(home) / "unlearn" if home else Path.home() / ".cache" / "unlearn"
    return None


def digest(*values: Any) -> str:
    """A hash of texts, plain values and tensors, in 64 hex digits."""
    made = hashlib.blake2b(digest_size=SUM)
    for value in values:
        if isinstance(value, Tensor):
            made.update(f"{value.dtype} {list(value.shape)}\n".encode())
            made.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        else:
            made.update(repr(value).encode())
    return made.hexdigest()


def number_of(*values: Any) -> int:
    """A seed that is the same for the same values, whatever else is asked for."""
    return int(digest(*values)[:15], 16)


@cache
def tool(*hosts: Path) -> str:
    """What this tool and its libraries are: another version may give other numbers for the same request.

    hosts: folders of more of its code.
    """
    made = hashlib.blake2b(digest_size=SUM)
    for folder in (Path(__file__).parent, *hosts):
        for file in sorted(folder.rglob("*.py")):
            made.update(file.read_bytes())
    return f"{__version__} {made.hexdigest()} torch {torch.__version__}"


class NoSavedWork:
    """In place of saved work where nothing is to be kept: everything is made."""

    there = False

    def begin(self, key: str, spared: Callable[[float], None]) -> None:
        """Nothing to look for."""

    def part(self, name: str, made_of: tuple, make: Callable[[], Tensors]) -> Tensors:
        """What `make` gives."""
        return make()

    def number(self, name: str, value: int) -> int:
        """The number that the run began with: another one of today would round otherwise."""
        return int(self.part(name, (), lambda: {"it": torch.tensor(value)})["it"])

    def snapshot(self) -> Snapshot | None:
        """None is kept."""
        return None

    def remove(self) -> None:
        """Nothing is there."""


NOTHING = NoSavedWork()


class SavedWork(NoSavedWork):
    """The finished parts of runs in `folder`, one folder a request.

    go_on: take what is there; otherwise it is made anew and written over, and still there if that is stopped too.
    most: bytes that all may take together.
    """

    def __init__(self, folder: Path, go_on: bool = True, most: float = MOST_BYTES):
        self.folder, self.go_on, self._most = folder, go_on, min(most, MOST_BYTES)
        self._place, self._chain = folder, ""
        self._spared: Callable[[float], None] = lambda _: None
        self._size, self._full, self.replaying = 0.0, False, False
        self.names: list[str] = []

    def begin(self, key: str, spared: Callable[[float], None]) -> None:
        """Look for what a run of this key has left. spared: hears the seconds of each part that need not be made."""
        self._place, self._chain, self._spared, self.names = self.folder / key[:32], key, spared, []
        sweep(self.folder, self._most, self._place)
        self._size = sum(size_of(file) for file in parts_in(self._place))
        self.there = self.go_on and self._size > 0

    def part(self, name: str, made_of: tuple, make: Callable[[], Tensors]) -> Tensors:
        """One part of the run's work: from the folder, else what `make` gives, on the CPU where it was found.

        made_of: what it depends on beside all parts before it.
        """
        called = digest(self._chain, name, *made_of)
        found = self.read(called)
        if found:
            facts, tensors = found
            self._spared(facts["seconds"])
        elif self.replaying:
            # no `UnlearnError`: nothing may take it for a way that failed, and go another one
            raise RuntimeError(f"The saved work in {self.folder} was changed while it was read: start again.")
        else:
            begun = time.monotonic()
            tensors = make()
            self.write(called, {"seconds": time.monotonic() - begun}, tensors)
        self._chain = digest(called, *(x for pair in sorted(tensors.items()) for x in pair))
        self.names.append(called)
        return tensors

    def snapshot(self) -> Snapshot | None:
        """Where a training stands that begins now."""
        return Snapshot(self, digest(self._chain, "snapshot"))

    def read(self, called: str) -> tuple[dict[str, Any], Tensors] | None:
        """(facts, tensors) of a file; None where it is not there or not whole, or its numbers are not finite."""
        return read_part(self._place / (called[:32] + SUFFIX), called) if self.go_on else None

    def write(self, called: str, facts: Mapping[str, Any], tensors: Tensors) -> None:
        """Keep it; where that cannot be done, or would be too much, the run goes on and keeps no more."""
        body = body_of(facts, tensors)
        file = self._place / (called[:32] + SUFFIX)
        size = self._size - size_of(file) + len(body)
        if self._full:
            return
        try:
            self._place.mkdir(parents=True, exist_ok=True)
            self._full = size > self._most or shutil.disk_usage(self._place).free < RESERVE + len(body)
            if not self._full:
                place_body(file, called, body)
                self._size = size
        except OSError:
            self._full = True

    @property
    def kept(self) -> bool:
        """Whether anything of this run is there, so that it can be gone on with."""
        return bool(parts_in(self._place))

    def remove(self) -> None:
        """The result is saved: delete what belongs to this run, and the folder when nothing else is in it."""
        clear(self._place)
        remove_empty(self.folder)


class Snapshot:
    """Where a training stands: one file that is written over every few seconds."""

    def __init__(self, work: SavedWork, called: str):
        self._work, self._called = work, called
        self._next = time.monotonic() + SECONDS

    def read(self) -> tuple[dict[str, Any], Tensors] | None:
        """(facts, tensors) as they were written, while all that the training has looked at until then is there too."""
        found = self._work.read(self._called)
        if found and all(name in self._work.names or self._work.read(name) for name in found[0]["names"]):
            return found[0]["facts"], found[1]
        return None

    def replay(self, on: bool) -> None:
        """Whether the steps before the snapshot are gone through again: what they saw can only be taken from there."""
        self._work.replaying = on

    def write(self, facts: Callable[[], dict[str, Any]], tensors: Callable[[], Tensors], now: bool = False) -> None:
        """Keep what the training is now, if it is time to or `now`."""
        begun = time.monotonic()
        if now or begun >= self._next:
            self._work.write(self._called, {"seconds": 0.0, "names": self._work.names, "facts": facts()}, tensors())
            ended = time.monotonic()
            self._next = ended + max(SECONDS, (ended - begun) / SHARE)


class OnDevice(Protocol):
    """What is worked on, on its device."""

    device: torch.device


def saved_tensor(host: OnDevice, name: str, made_of: tuple, make: Callable[[], Tensor]) -> Tensor:
    """What `make` gives, on the host's device; from the saved work of the run that the host is in, if it is there."""
    work = getattr(host, "saved", NOTHING)
    return work.part(name, made_of, lambda: {"it": make()})["it"].to(host.device)


def read_part(file: Path, called: str) -> tuple[dict[str, Any], Tensors] | None:
    """(facts, tensors) of a file; None where it is not there or not whole, or its numbers are not finite."""
    if not 0 < size_of(file) <= MOST_BYTES:
        return None
    try:
        data = file.read_bytes()
        if data[:SUM] != sum_of(called, data[SUM:]):
            return None
        end = SUM + 8 + int.from_bytes(data[SUM : SUM + 8], "little")
        facts, flat = json.loads(data[SUM + 8 : end]), load(data[end:])
        sound = 0 <= float(facts["seconds"]) < float("inf") and all(bool(t.isfinite().all()) for t in flat.values())
        return (facts, {n: laid_out(t, facts["strides"][n]) for n, t in flat.items()}) if sound else None
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, MemoryError, SafetensorError, RecursionError):
        return None


def write_part(file: Path, called: str, facts: Mapping[str, Any], tensors: Tensors) -> None:
    """Write what `read_part` reads, its folder too, where room is left on the disk. Raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    body = body_of(facts, tensors)
    if shutil.disk_usage(file.parent).free >= RESERVE + len(body):
        place_body(file, called, body)


def body_of(facts: Mapping[str, Any], tensors: Tensors) -> bytes:
    """What a file holds after its sum."""
    plain = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    table = json.dumps({**facts, "strides": {name: t.stride() for name, t in tensors.items()}}).encode()
    return len(table).to_bytes(8, "little") + table + save(plain)


def place_body(file: Path, called: str, body: bytes) -> None:
    """Write a file whole or not at all, but without waiting for the disk: what a power cut damages is made anew."""
    temporary = file.with_name(f".unlearn-{secrets.token_hex(8)}.tmp")
    try:
        temporary.write_bytes(sum_of(called, body) + body)
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def laid_out(values: Tensor, strides: Sequence[int]) -> Tensor:
    """The same values in memory as they lay there before: products of another layout round otherwise."""
    reach = 1 + sum((size - 1) * step for size, step in zip(values.shape, strides, strict=True))
    if not 0 <= reach <= 64 * (values.numel() + 1) or any(step < 0 for step in strides):
        raise ValueError("not the strides of these values")
    return torch.empty_strided(values.shape, tuple(strides), dtype=values.dtype).copy_(values)


def sum_of(called: str, body: bytes) -> bytes:
    """A file's sum: of its contents and of what it is called."""
    return hashlib.blake2b(called.encode() + body, digest_size=SUM).digest()


def size_of(file: Path) -> int:
    """Of a file, 0 where there is none."""
    try:
        return file.stat().st_size
    except OSError:
        return 0


def parts_in(place: Path) -> list[Path]:
    """The files of one run, those that a kill has left half written too."""
    try:
        return [f for f in place.iterdir() if re.fullmatch(OURS, f.name) and f.is_file()]
    except OSError:
        return []


def runs_in(folder: Path) -> list[Path]:
    """The folders of runs, the one first that was written to last."""
    try:
        found = [p for p in folder.iterdir() if re.fullmatch("[0-9a-f]{32}", p.name) and p.is_dir()]
    except OSError:
        return []
    return sorted(found, key=last_written, reverse=True)


def last_written(place: Path) -> float:
    """When something was last put into a folder; 0 where nobody knows."""
    try:
        return place.stat().st_mtime
    except OSError:
        return 0.0


def clear(place: Path) -> None:
    """Delete one run's files and, when nothing else is in it, its folder."""
    with suppress(OSError):
        for file in parts_in(place):
            file.unlink(missing_ok=True)
    remove_empty(place)


def holds_work(folder: Path) -> bool:
    """Whether a run has left something in a folder."""
    return any(map(parts_in, runs_in(folder)))


def discard(folder: Path) -> None:
    """Delete all saved work in a folder that belongs to one result, whatever request made it, and the folder."""
    for place in runs_in(folder):
        clear(place)
    remove_empty(folder)


def remove_empty(folder: Path) -> None:
    """Delete a folder in which nothing is left."""
    with suppress(OSError):
        folder.rmdir()


def sweep(folder: Path, most: float, but: Path) -> None:
    """Delete runs that nobody came back to for `DAYS`, and the oldest ones where all take more than `most` bytes."""
    total = 0
    for place in runs_in(folder):
        total += sum(map(size_of, parts_in(place)))
        if place != but and (total > most or time.time() - last_written(place) > DAYS * 86400):
            clear(place)
