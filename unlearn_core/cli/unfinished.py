"""Where the command line keeps the work of a run that is not finished, and what it says about it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tqdm import tqdm

from ..errors import BadSetting
from ..saved_work import SavedWork, holds_work, remove_empty

GO_ON = "Add --resume to the same command to go on from here."
NOT_KEPT = "Nothing of this run could be kept on the disk: make room, the same command begins anew."
SHOWN = 3
"""Names of a list that a sentence repeats."""
LOCK = "lock"
"""The file that is locked in the folder for as long as a run is under way."""


def unfinished(delta: Path) -> Path:
    """The folder beside a delta that is being made."""
    return delta.with_name(delta.stem + ".unfinished")


@contextmanager
def only_run(delta: Path) -> Iterator[None]:
    """Nobody else makes this delta for the length of a block. Raises `BadSetting` where somebody is at it.

    The system releases the lock of a process that dies. Where there are no locks, the run goes on without.
    """
    file = unfinished(delta) / LOCK
    try:
        handle = locked(file)
    except (BlockingIOError, PermissionError):
        raise BadSetting(
            f"Another run is making '{delta.name}' at this moment: wait for its end, or choose another place."
        ) from None
    try:
        yield
    finally:
        if handle is not None:
            # before it is released, since it could be another run's afterwards; but Windows deletes no open file
            delete(file)
            os.close(handle)
            if os.name == "nt":
                delete(file)
            remove_empty(file.parent)


def locked(file: Path) -> int | None:
    """The file, open and locked; None where that cannot be done. Raises `OSError` where another process holds it."""
    try:
        file.parent.mkdir(exist_ok=True)
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:
        return None
    try:
        lock(handle)
    except OSError as e:
        os.close(handle)
        if isinstance(e, (BlockingIOError, PermissionError)):
            raise
        return None
    return handle


def lock(handle: int) -> None:
    """Lock an open file for as long as it is open. Raises `OSError`, at once where another process holds it."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def delete(file: Path) -> None:
    """Delete a file if that can be done."""
    with suppress(OSError):
        file.unlink()


def saved_work(delta: Path, resume: bool) -> SavedWork:
    """Of the run that makes a delta. resume: go on from what is there; otherwise say that it is there."""
    folder = unfinished(delta)
    if not resume and holds_work(folder):
        note = f"note: a stopped run is kept in {folder}: add --resume to go on with it. It goes when this one ends."
        print(note, file=sys.stderr)
    return SavedWork(folder, resume)


def say_how_it_goes_on(saved: SavedWork) -> None:
    """Said beside a progress bar, when the run has looked for what is there."""
    found = "going on with the run that was stopped" if saved.there else "nothing of this run is kept, it begins anew"
    tqdm.write(f"note: {found}.", file=sys.stderr)


def how_it_goes_on(saved: SavedWork) -> str:
    """What to do after a run was stopped."""
    return GO_ON if saved.kept else NOT_KEPT


def how_a_list_goes_on(left: Sequence[str], saved: Sequence[Path]) -> str:
    """What to say where a list was stopped between two concepts. saved: the deltas that are there."""
    lies = f" Saved in {saved[0].parent.resolve()}: {in_words([file.name for file in saved])}." if saved else ""
    return f"Stopped: {in_words(left)} {'was' if len(left) == 1 else 'were'} not made. {GO_ON}{lies}"


def in_words(names: Sequence[str]) -> str:
    """Names in a sentence, the first of a long list."""
    shown = [f"'{name}'" for name in names[:SHOWN]] + [f"{len(names) - SHOWN} more"] * (len(names) > SHOWN)
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))
