"""Where the command line keeps the work of a run that is not finished, and what it says about it."""

from __future__ import annotations

import sys
from pathlib import Path

from tqdm import tqdm

from ..saved_work import SavedWork, holds_work

GO_ON = "Add --resume to the same command to go on from here."


def unfinished(delta: Path) -> Path:
    """The folder beside a delta that is being made."""
    return delta.with_name(delta.stem + ".unfinished")


def saved_work(delta: Path, resume: bool) -> SavedWork:
    """Of the run that makes a delta. resume: go on from what is there; otherwise say that it is there."""
    folder = unfinished(delta)
    if not resume and holds_work(folder):
        print(f"note: a stopped run is kept in {folder}: add --resume to go on with it.", file=sys.stderr)
    return SavedWork(folder, resume)


def say_how_it_goes_on(saved: SavedWork) -> None:
    """Said beside a progress bar, when the run has looked for what is there."""
    found = "going on with the run that was stopped" if saved.there else "nothing of this run is kept, it begins anew"
    tqdm.write(f"note: {found}.", file=sys.stderr)
