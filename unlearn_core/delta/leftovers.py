"""Temporary files beside the places that they are for: their names, and the end of those whose writer has died."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

NAME = re.compile(r"\.unlearn-(?:(\d+)-)?[0-9a-f]{16}\.tmp")
"""With the writer's process, which the names of the first versions did not have."""
YOUNG = 60.0
"""Seconds for which a file is left alone whatever its name says: it may have no lock yet, or none any more."""
OLD = 6 * 3600.0
"""Seconds after which a file that nobody writes to is swept where locks and processes cannot be asked for."""
under_way: set[str] = set()
"""Names that this process is not done with, however old their files look by a disk's clock, and locked or not."""


@contextmanager
def new_name(folder: Path) -> Iterator[Path]:
    """A name in the folder that nobody has, for a file or a folder that gets to its place within the block."""
    path = folder / f".unlearn-{os.getpid()}-{secrets.token_hex(8)}.tmp"
    under_way.add(path.name)
    try:
        yield path
    finally:
        under_way.discard(path.name)


def moves_what_is_open() -> bool:
    """Whether the system gives an open file another name: then it stays open, and locked, until it has its place."""
    return sys.platform != "win32"


def claim(handle: int) -> None:
    """Lock an open file or folder for as long as it is open, so that no other process takes it for a dead one's."""
    if sys.platform != "win32":  # there an open file cannot be deleted
        import fcntl

        with suppress(OSError):  # some network folders have no locks: the name and the time have to do
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def sweep(folder: Path) -> None:
    """Delete temporary files in a folder whose writer has died, never those of a living one; other files stay."""
    try:
        with os.scandir(folder) as entries:
            found = [(Path(e.path), m[1]) for e in entries if (m := NAME.fullmatch(e.name)) and not e.is_symlink()]
    except OSError:
        return
    for path, process in found:
        try:
            if is_dead(path, int(process) if process else None):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        except OSError:
            continue  # it has gone meanwhile, or is not ours to delete


def is_dead(path: Path, process: int | None) -> bool:
    """Whether nobody will ever finish a temporary file. Raises `OSError` when it is gone."""
    if path.name in under_way:
        return False
    age = time.time() - path.stat().st_mtime
    if sys.platform == "win32":
        return age > YOUNG  # what is open there cannot be deleted
    free = is_free(path)
    if free is None or process is None:
        return free is not False and age > OLD
    # a process of this number may live in another container or on another machine: the lock decides then
    return free and (age > YOUNG or not lives(process))


def is_free(path: Path) -> bool | None:
    """Whether no process holds the lock of a file or folder; None where there are no locks. Not for Windows."""
    import fcntl

    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except OSError:
        return None
    finally:
        os.close(handle)


def lives(process: int) -> bool:
    """Whether there is a process of this number. Not for Windows, where the question itself would end it."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
