"""A copy of a checkpoint with a stack baked in, for programs that know no LoRA."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..unlearn_core import BadCheckpoint, Stack, UnlearnError
from ..unlearn_core import keys as names
from ..unlearn_core.stack import check_fits

UNET = "model.diffusion_model."
BESIDE = (".yaml", ".words.json")
"""What belongs to a checkpoint and has to lie beside the copy too."""


def bake(checkpoint: Path, stack: Stack, out: Path, tick: Callable[[int, int], None]) -> int:
    """Write `checkpoint` with the stack's changes added to its weights as `out`; returns the number of changed layers.

    Sums in float32, rounds once to the weight's own type; all other tensors are copied bit for bit. The file appears
    whole or not at all. Raises `UnlearnError`, and whatever `tick(done, total)` raises to stop.
    """
    if checkpoint.suffix != ".safetensors":
        raise BadCheckpoint(f"{checkpoint.name} is no .safetensors file: convert it first.")
    if not stack.active:
        raise UnlearnError("The stack is empty or switched off: there is nothing to bake in.")
    try:
        with safe_open(str(checkpoint), "pt", device="cpu") as file:
            metadata, keys = file.metadata(), list(file.keys())
            denoiser = [k for k in keys if k.startswith(UNET)]
            fingerprinted = {k.removeprefix(UNET): file.get_tensor(k) for k in denoiser if k.endswith(WANTED)}
            shape = names.UNetShape.from_state_dict(denoiser)
            places = layer_keys(denoiser, shape)
            for entry in stack.active:
                fits = (names.fingerprint(fingerprinted), entry.delta.info.architecture, places)
                check_fits(Stack((entry,)), *fits)
            changes = {places[n] for e in stack.active for n in e.delta.factors}
            tensors: dict[str, Tensor] = {}
            for i, key in enumerate(keys):
                tensors[key] = file.get_tensor(key)
                if key in changes:
                    tensors[key] = changed(tensors[key], key, stack, places)
                tick(i + 1, len(keys) + 1)
    except (SafetensorError, OSError, ValueError) as e:
        raise BadCheckpoint(f"{checkpoint.name} cannot be read: {e}") from e
    write(tensors, metadata, out)
    copy_companions(checkpoint, out)
    return len(changes)


def copy_companions(checkpoint: Path, out: Path) -> None:
    """Copy what lies beside a checkpoint and belongs to it, the tokenizer's folder that its yaml names included."""
    for suffix in BESIDE:
        if (beside := checkpoint.with_suffix(suffix)).is_file():
            shutil.copyfile(beside, out.with_suffix(suffix))
    config = checkpoint.with_suffix(".yaml")
    named = re.search(r"version:\s*['\"]?([\w-]+)", config.read_text("utf-8")) if config.is_file() else None
    if named and (folder := checkpoint.parent / named[1]).is_dir() and out.parent != checkpoint.parent:
        shutil.copytree(folder, out.parent / named[1], dirs_exist_ok=True)


WANTED = tuple(names.FINGERPRINTED)


def layer_keys(denoiser: list[str], shape: names.UNetShape) -> dict[str, str]:
    """{any name that a delta may use: key in the checkpoint} of everything with a weight."""
    found = {}
    for key in denoiser:
        if key.endswith(".weight"):
            path = key.removeprefix(UNET).removesuffix(".weight")
            found |= dict.fromkeys(names.accepted_names(path, shape), key)
    return found


def changed(weight: Tensor, key: str, stack: Stack, places: dict[str, str]) -> Tensor:
    """One weight with all changes of the stack."""
    total = weight.float().flatten(1)
    for entry in stack.active:
        for name, factor in entry.delta.factors.items():
            if places[name] == key:
                if (factor.up.shape[0], factor.down.shape[1]) != total.shape:
                    raise UnlearnError(f"The layer {name} has another size than in the delta: load its checkpoint.")
                total = total + entry.strength * factor.matrix()
    return total.view(weight.shape).to(weight.dtype)


@torch.no_grad()
def write(tensors: dict[str, Tensor], metadata: dict[str, str] | None, out: Path) -> None:
    """Save beside the place and move over it: gigabytes need not fit into memory twice."""
    temporary = out.parent / f".unlearn-{secrets.token_hex(8)}.tmp"
    try:
        save_file(tensors, str(temporary), metadata)
        os.replace(temporary, out)
    except (OSError, SafetensorError) as e:
        raise UnlearnError(f"'{out.name}' cannot be written ({e}): make room or choose another folder.") from e
    finally:
        temporary.unlink(missing_ok=True)
