"""The deltas in the LoRA folder."""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from safetensors import SafetensorError, safe_open

from ..unlearn_core import DeltaInfo, UnlearnError
from ..unlearn_core.delta.format import MAX_HEADER, SUFFIX, read_info
from ..unlearn_core.delta.paths import contained, safe_file_name
from ..unlearn_core.untrusted import Unreadable, header_bytes, opened, stamp
from .pictures import small_png

MOST_FILES, MOST_FOLDERS = 5000, 5000
MOST_PICTURE = 2**23
"""Bytes of a picture beside a delta that is shown."""
CARD_PICTURE = ".preview.png"
"""How web UIs find a LoRA's picture."""


@dataclass(frozen=True)
class Card:
    """What the list shows of one delta. name: its path inside the folder, with slashes."""

    name: str
    info: DeltaInfo
    made: str
    size: int

    @property
    def stem(self) -> str:
        """The name that a `<lora:...>` tag calls it by."""
        return Path(self.name).stem


def cards(folder: Path) -> list[Card]:
    """All deltas below a folder, newest first; other LoRAs and files that cannot be read are passed over.

    Also those behind a link, as web UIs list them.
    """
    # of very many the newest, so that a new delta is among them
    files = heapq.nlargest(MOST_FILES, files_below(folder), key=stamp)
    found = [(stamp(file)[0], card) for file in files if (card := card_of(folder, file))]
    return [card for _, card in sorted(found, key=lambda pair: (-pair[0], pair[1].name))]


def files_below(folder: Path) -> Iterator[Path]:
    """All files with a delta's ending, each folder once: under its own name where a link leads to it as well."""
    root, seen = os.path.realpath(folder), set()
    for where, folders, names in os.walk(folder, followlinks=True):
        place = os.path.realpath(where)
        inside = place.startswith(os.path.join(root, ""))
        linked = inside and os.path.join(root, os.path.relpath(where, folder)) != place
        if linked or place in seen or len(seen) == MOST_FOLDERS:
            folders.clear()
            continue
        seen.add(place)
        yield from (Path(where, name) for name in names if name.endswith(SUFFIX))


def card_of(folder: Path, file: Path) -> Card | None:
    """One file below a folder; None for what is no delta or cannot be read."""
    try:
        facts = file.stat()
        info = described(str(file), facts.st_mtime_ns, facts.st_size)
    except OSError:
        return None
    if info is None:
        return None
    made = datetime.fromtimestamp(facts.st_mtime)
    return Card(file.relative_to(folder).as_posix(), info, f"{made:%Y-%m-%d %H:%M}", facts.st_size)


def not_there(folder: Path) -> str:
    """Why a folder of deltas has none, in a sentence, where it is no folder at all; else ""."""
    if folder.is_dir():
        return ""
    if folder.exists():
        return f"There is no folder {folder}, but a file of that name: move or rename that file, then try again."
    return f"There is no folder {folder}. It is made when the next delta is saved."


@lru_cache(maxsize=2 * MOST_FILES)
def described(file: str, changed: int, size: int) -> DeltaInfo | None:
    """What a file says about itself, read off its header alone, or None. changed, size: so that a new file is read."""
    try:
        # the library waits for a pipe, and takes gigabytes for a header that no delta has
        header_bytes(Path(file), MAX_HEADER)
        with safe_open(file, "pt", device="cpu") as delta:
            return read_info(delta.metadata() or {})
    except (UnlearnError, SafetensorError, OSError, RuntimeError, ValueError, AttributeError):
        return None


def small_card(file: Path) -> str:
    """The address of the picture beside a delta, made small, or "" where there is none that can be read."""
    picture = file.with_suffix(CARD_PICTURE)
    try:
        facts = picture.stat()
        return shrunk(str(picture), facts.st_mtime_ns, facts.st_size)
    except (OSError, Unreadable):
        return ""


@lru_cache(maxsize=64)
def shrunk(file: str, changed: int, size: int) -> str:
    """`small_png` of a file that is not too large. changed, size: so that a new file is read."""
    if size > MOST_PICTURE:
        return ""
    with opened(Path(file)) as picture:
        return small_png(picture.read())


def free_file(folder: Path, wish: str) -> Path:
    """A file that does not exist yet: hosts go on showing what they read under a name before."""
    stem, number = safe_file_name(wish), 1
    while True:
        name = f"{stem}{'' if number == 1 else f'_{number}'}{SUFFIX}"
        # a link takes a name too, wherever it leads
        if not os.path.lexists(folder / name):
            return contained(folder, name)
        number += 1
