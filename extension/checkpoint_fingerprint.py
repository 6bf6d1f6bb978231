"""Which checkpoint a file is, without loading it: enough to say which deltas were made for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..unlearn_core import UnlearnError
from ..unlearn_core.delta import layer_names
from ..unlearn_core.untrusted import CHECKPOINT_BOUNDS, header_bytes

UNET = "model.diffusion_model."


class Weights(Mapping):
    """An open file's denoiser by bare names; a tensor is read when it is asked for."""

    def __init__(self, opened: Any):
        self._opened = opened
        self._keys = {k.removeprefix(UNET): k for k in opened.keys() if k.startswith(UNET)}

    def __getitem__(self, name: str) -> Tensor:
        return self._opened.get_tensor(self._keys[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def fingerprint_of(file: Path) -> str | None:
    """The fingerprint that deltas for this checkpoint carry; None where the file cannot tell."""
    try:
        facts = file.stat()
    except OSError:
        return None
    return read(str(file), facts.st_mtime_ns, facts.st_size)


@lru_cache(maxsize=32)
def read(file: str, changed: int, size: int) -> str | None:
    """`fingerprint_of` a file; changed, size: so that a new file under an old name is read anew."""
    try:
        header_bytes(Path(file), CHECKPOINT_BOUNDS[0])
        with safe_open(file, "pt", device="cpu") as opened:
            return layer_names.fingerprint(Weights(opened))
    except (UnlearnError, SafetensorError, OSError, RuntimeError, ValueError):
        return None
