"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ..errors import UnlearnError
from .leftovers import claim, moves_what_is_open, new_name, sweep

FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


class NewFile:
    """A file on its way to its place; what goes wrong in writing it is said of the place, not of what is read."""

    def __init__(self, file: BinaryIO, path: Path, target: Path):
        self._file, self._target = file, target
        self.path = path
        """Where it lies for now."""

    def write(self, data: bytes) -> int:
        """Write at the place in the file where one is."""
        with said_of(self._target):
            return self._file.write(data)

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place in the file."""
        with said_of(self._target):
            return self._file.seek(place, whence)

    def settle(self) -> int:
        """Bring everything onto the disk; the file's size."""
        with said_of(self._target):
            self._file.flush()
            os.fsync(self._file.fileno())
            return os.fstat(self._file.fileno()).st_size

    def ready_to_move(self) -> None:
        """Close it where the system moves nothing that is open; else it stays open, and its lock holds meanwhile."""
        if moves_what_is_open():
            return
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            os.utime(self.path)  # by the clock of this machine: other processes leave alone what looks young


def write_whole(path: Path, data: bytes) -> None:
    """Write beside the place and move over it; the old file stays when anything fails. Raises `UnlearnError`."""
    with whole_file(path) as file:
        file.write(data)
        if (size := file.settle()) != len(data):
            raise UnlearnError(f"Only {size} of {len(data)} bytes of '{path}' were written: check the disk.")


@contextmanager
def whole_file(path: Path, place: Callable[[Path, Path], None] | None = None) -> Iterator[NewFile]:
    """A new file to write and seek in, which takes the place of `path` at the end of the block, or nothing does.

    place: moves the finished file (its path now, its path to be); by default over what is there. Raises
    `UnlearnError` for what fails on the way to the place; what fails in the block is passed on as it is.
    """
    with said_of(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
    with new_name(path.parent) as temporary:
        try:
            with said_of(path):
                raw = open(temporary, "xb")  # noqa: SIM115 - the block in which errors are told apart is another one
            try:
                claim(raw.fileno())
                file = NewFile(raw, temporary, path)
                yield file
                file.settle()
                file.ready_to_move()
                with said_of(path):
                    (place or os.replace)(temporary, path)
                    sync_folder(path.parent)
            finally:
                with suppress(OSError):  # what was not written is known already, or the block has failed
                    raw.close()
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


@contextmanager
def said_of(path: Path) -> Iterator[None]:
    """Turn what the system says about writing a file into a sentence about its place."""
    try:
        yield
    except (OSError, ValueError) as e:
        raise UnlearnError(why_not_written(path, e)) from e


def why_not_written(path: Path, error: Exception) -> str:
    """What went wrong in writing a file, and what to do next."""
    number = error.errno if isinstance(error, OSError) else None
    if number in FULL:
        return f"The disk of {path.parent} is full: make room and try again."
    if number == errno.EFBIG:
        return f"The disk of {path.parent} takes no file of this size (FAT32 ends at 4 GB): choose another disk."
    if number == errno.EIO:
        return f"The disk of {path.parent} has failed in writing '{path.name}': check it, or choose another one."
    reason = (error.strerror if isinstance(error, OSError) else "") or str(error)
    return f"'{path}' cannot be written, choose another folder or name ({reason})."


def place_new(temporary: Path, path: Path) -> None:
    """Give a finished file a name that nobody has. Raises `FileExistsError` rather than replace one.

    The temporary name may stay beside it: `whole_file` takes that away.
    """
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a disk without hard links
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, "another program has just made it", str(path)) from None
        os.rename(temporary, path)


def sync_folder(folder: Path) -> None:
    """Bring a new name onto the disk, where the system can: a power cut then leaves the file under it."""
    with suppress(OSError, AttributeError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_json(file: Path, data: dict) -> None:
    """Readable JSON, whole or not at all."""
    text = json.dumps(data, indent=2, ensure_ascii=False) + os.linesep
    # names of files may hold bytes that are no text; the escapes are JSON's own
    write_whole(file, text.encode("utf-8", "backslashreplace"))
