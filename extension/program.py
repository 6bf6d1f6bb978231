"""What the tab asks of the program that it runs in."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from ..unlearn_core import HostModel
from ..unlearn_core.delta.base_sample import Base
from .jobs import Job


class HostProgram(Protocol):
    """One program: where its files are, its model, its queue. Every method may raise `UnlearnError` with a sentence."""

    in_web_ui: bool
    """Whether there is a txt2img that takes `<lora:...>` tags."""

    shows_folders: bool
    """Whether who looks at the page sits at this machine, so that a folder can be opened on its screen."""

    def folder(self) -> Path:
        """Where deltas lie."""
        ...

    def pictures_folder(self) -> Path:
        """Where before and after pictures are saved."""
        ...

    def checkpoint_name(self) -> str:
        """What the page calls the chosen checkpoint."""
        ...

    def base(self) -> Base | None:
        """The chosen checkpoint as deltas know it; None while it is not known."""
        ...

    def checkpoint(self) -> Path:
        """The chosen checkpoint's file."""
        ...

    def term_lists(self) -> Sequence[Path]:
        """Lists of terms that the artist has, see `unlearn_core.words.term_lists`."""
        ...

    def checkpoints_folder(self) -> Path:
        """Where a copy of it with a stack baked in belongs."""
        ...

    def model(self, job: Job) -> AbstractContextManager[HostModel]:
        """The chosen checkpoint, for this job alone, as soon as the program has nothing else to do with it."""
        ...

    def file_changed(self, file: Path) -> None:
        """A file was added to the folder or removed from it."""
        ...
