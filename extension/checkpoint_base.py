"""Which checkpoint a file is, without loading it: enough to say which deltas were made for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..unlearn_core import UnlearnError
from ..unlearn_core.delta.base_sample import Base
from ..unlearn_core.standalone.weights import SCALES, with_scale
from ..unlearn_core.untrusted import CHECKPOINT_BOUNDS, header_bytes

UNET = "model.diffusion_model."


class Weights(Mapping):
    """An open file's denoiser by bare names; a tensor is read when it is asked for, with its scale multiplied in."""

    def __init__(self, opened: Any):
        self._opened = opened
        self._keys = {k.removeprefix(UNET): k for k in opened.keys() if k.startswith(UNET)}

    def __getitem__(self, name: str) -> Tensor:
        weight, stem = self._opened.get_tensor(self._keys[name]), name.removesuffix(".weight")
        scale = next((self._keys[stem + s] for s in SCALES if stem + s in self._keys), None)
        return weight if scale is None or stem == name else with_scale(weight, self._opened.get_tensor(scale))

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def base_of(file: Path) -> Base | None:
    """A checkpoint file as deltas know it; None where the file cannot tell."""
    try:
        facts = file.stat()
    except OSError:
        return None
    return read(str(file), facts.st_mtime_ns, facts.st_size)


@lru_cache(maxsize=32)
def read(file: str, changed: int, size: int) -> Base | None:
    """`base_of` a file; changed, size: so that a new file under an old name is read anew."""
    try:
        header_bytes(Path(file), CHECKPOINT_BOUNDS[0])
        with safe_open(file, "pt", device="cpu") as opened:
            return Base.of(Weights(opened))
    except (UnlearnError, SafetensorError, OSError, RuntimeError, ValueError):
        return None
