"""The bed as a model: the demo model's file with the difference that `train` has learned added to it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from unlearn_core.demo.recognition import CHECKPOINT
from unlearn_core.standalone.model import StandaloneModel

DIFFERENCE = Path(__file__).with_name("stamp.safetensors")
NAME = "stamp-demo"


def whole(difference: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All weights of the bed in half precision, by their names in the demo model's file."""
    weights = load_file(CHECKPOINT)
    return weights | {name: (weights[name].float() + d.float()).half() for name, d in difference.items()}


def write(folder: Path, difference: Mapping[str, Tensor] | None = None) -> Path:
    """The bed as a checkpoint that every program opens, with its yaml, words and tokenizer beside it; 11 MB."""
    file = folder / f"{NAME}.safetensors"
    save_file(whole(load_file(DIFFERENCE) if difference is None else difference), file, {"format": "pt"})
    for ending in (".yaml", ".words.json"):
        shutil.copy(CHECKPOINT.with_suffix(ending), file.with_suffix(ending))
    shutil.copytree(CHECKPOINT.with_name("tokenizer"), folder / "tokenizer", dirs_exist_ok=True)
    return file


def opened(device: str | torch.device = "cpu", half: bool = True, folder: Path | None = None) -> StandaloneModel:
    """The bed. folder: where its file is written; for a moment somewhere where it is left out."""
    if folder:
        return StandaloneModel(write(folder), device, half=half)
    with tempfile.TemporaryDirectory() as name:
        host = StandaloneModel(write(Path(name)), device, half=half)
    host.words_file = str(CHECKPOINT.with_suffix(".words.json"))
    return host
