"""What a model was seen to draw, on disk: the next request on the same model, or the same one again, needs less.

One file a picture, called after a hash of all that it depends on, in the format of `saved_work`, read as hostile: what
is damaged or another's is made anew and written over.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from ..saved_work import digest, read_part, size_of, write_part

NAME = r"[0-9a-f]{32}\.seen|\.unlearn-[0-9a-f]{16}\.tmp"
"""Names of the files that are written, and the only ones that are deleted."""
MOST_BYTES = 2**28
"""What all of them may take: a thousand pictures of SDXL; those used longest ago go first."""


class Remembered:
    """Pictures in `folder`, of one model. model: a hash of what it is; None as folder: nothing is kept."""

    def __init__(self, folder: Path | None = None, model: str = "", most: int = MOST_BYTES):
        self.folder, self._model, self._most = folder, model, most

    def rows(self, keys: Sequence[tuple], make: Callable[[list[int]], Tensor], like: Sequence[int]) -> Tensor:
        """One row a key, `[keys, *like]`: those that are there, and what `make` gives for the numbers of the others.

        like: the shape of one row. On the device on which `make` works, on the CPU where nothing is made.
        """
        names = [digest(self._model, *key) for key in keys]
        found = [self.read(name, like) for name in names]
        missing = [i for i, row in enumerate(found) if row is None]
        if missing:
            made = make(missing)
            for i, row in zip(missing, made, strict=True):
                found[i] = row
                self.write(names[i], row)
            self.tidy()
        device = made.device if missing else torch.device("cpu")
        return torch.stack([row.to(device) for row in found if row is not None])

    def read(self, name: str, like: Sequence[int]) -> Tensor | None:
        """One row, None where it is not there, not whole, or of another shape."""
        if self.folder is None:
            return None
        file = self.file(name)
        part = read_part(file, name)
        row = part[1].get("it") if part else None
        if row is None or list(row.shape) != list(like) or row.dtype != torch.float32:
            return None
        with suppress(OSError):
            os.utime(file)
        return row

    def write(self, name: str, row: Tensor) -> None:
        """Keep a row of finite numbers; where that cannot be done the run goes on without."""
        if self.folder is not None and row.dtype == torch.float32 and bool(row.isfinite().all()):
            with suppress(OSError):
                write_part(self.file(name), name, {"seconds": 0.0}, {"it": row})

    def file(self, name: str) -> Path:
        """Where a row lies."""
        assert self.folder is not None
        return self.folder / f"{name[:32]}.seen"

    def tidy(self) -> None:
        """Delete what was used longest ago where all takes more than it may."""
        if self.folder is None:
            return
        try:
            ours = [f for f in self.folder.iterdir() if re.fullmatch(NAME, f.name) and f.is_file()]
            ours.sort(key=lambda f: f.stat().st_mtime, reverse=True)
        except OSError:
            return
        total = 0
        for file in ours:
            total += size_of(file)
            if total > self._most:
                with suppress(OSError):
                    file.unlink()
