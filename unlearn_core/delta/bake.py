"""Deltas written into a copy of a checkpoint file: the same file with other numbers in the layers that they change.

The file is never rebuilt: header and bytes are copied, and only the changed layers' bytes are replaced. So every other
tensor, its type, its place and the author's texts stay as they are, whatever the family of the model.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import BadCheckpoint, BadDelta, BadSetting, UnlearnError
from . import layer_names
from .apply import check_scale
from .atomic import whole_file
from .format import SUFFIX, Factor
from .paths import BESIDE, tokenizer_folder
from .stack import Stack, check_fits

PREFIX = "model.diffusion_model."
"""Before the denoiser's names in full checkpoints; files of a denoiser alone have none."""
DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}
NOTE = "unlearn.baked"
"""The one text that is added: what was forgotten, at which strengths, by which deltas."""


@dataclass(frozen=True)
class Baked:
    """concepts: those forgotten. layers: number of changed tensors. bytes: size of the new file."""

    concepts: tuple[str, ...]
    layers: int
    bytes: int


def bake(stack: Stack, checkpoint: str | Path, out: str | Path, tick: Callable[[], None] = lambda: None) -> Baked:
    """Write `out`, a copy of `checkpoint` (.safetensors) with the stack added to its weights, whole or not at all.

    Sums in float32 and rounds once to each weight's own type, as a host does that applies the deltas. tick: after
    each changed layer. Raises `BadSetting` for a place that cannot be meant, `BadCheckpoint` for a file that is no
    checkpoint or of a type that cannot be baked, `BadDelta` for deltas of another base or without effect.
    """
    source, target = Path(checkpoint), Path(out)
    if not stack.active:
        raise BadSetting("There is nothing to bake: give at least one delta of a strength other than 0.")
    if target.suffix != SUFFIX:
        raise BadSetting(f"A checkpoint is saved as {SUFFIX}: rename '{target.name}' to end so.")
    if target.exists() and source.exists() and target.samefile(source):
        raise BadSetting("The checkpoint itself is never overwritten: choose another name for the copy.")
    if source.suffix.lower() != SUFFIX:
        raise BadCheckpoint(f"'{source.name}' is not a {SUFFIX} file: convert it first.")
    if not source.is_file():
        raise BadCheckpoint(f"There is no checkpoint at {source}.")
    try:
        with safe_open(source, "pt", device="cpu") as file:
            baked = write_copy(stack, Source.read(source, file), target, tick)
    except (SafetensorError, OSError, RuntimeError, ValueError, KeyError) as e:
        raise BadCheckpoint(f"'{source.name}' is not a readable {SUFFIX} checkpoint ({e}).") from e
    try:
        copy_companions(source, target)
    except OSError as e:
        raise UnlearnError(
            f"'{target.name}' is written, but not what lies beside the checkpoint ({e}): copy that by hand."
        ) from e
    return baked


def copy_companions(checkpoint: Path, out: Path) -> None:
    """Copy what lies beside a checkpoint and belongs to it, the tokenizer's folder that its yaml names included."""
    for suffix in BESIDE:
        if (beside := checkpoint.with_suffix(suffix)).is_file():
            shutil.copyfile(beside, out.with_suffix(suffix))
    folder = tokenizer_folder(checkpoint)
    if folder is not None and not out.parent.samefile(checkpoint.parent):
        shutil.copytree(folder, out.parent / folder.name, dirs_exist_ok=True)


@dataclass(frozen=True)
class Source:
    """A checkpoint file that is open: its header, and the byte at which its numbers begin.

    prefix: what is before the names of the denoiser's tensors, "" in files of a denoiser alone.
    """

    path: Path
    file: safe_open
    header: dict[str, Any]
    begin: int
    prefix: str

    @classmethod
    def read(cls, path: Path, file: safe_open) -> Source:
        """Of a file whose header `file` has checked: all lengths and offsets."""
        header, begin = read_header(path)
        return cls(path, file, header, begin, PREFIX if any(n.startswith(PREFIX) for n in header) else "")

    @property
    def names(self) -> list[str]:
        """All tensors, in the header's order."""
        return [n for n in self.header if n != "__metadata__"]

    @property
    def denoiser(self) -> list[str]:
        """The denoiser's tensors, without the prefix."""
        return [n.removeprefix(self.prefix) for n in self.names if n.startswith(self.prefix)]

    def tensor(self, name: str) -> Tensor:
        """A tensor of the denoiser."""
        return self.file.get_tensor(self.prefix + name)


def read_header(path: Path) -> tuple[dict[str, Any], int]:
    """A safetensors file's header, and the byte at which its numbers begin."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return json.loads(file.read(length)), 8 + length


def changes_of(stack: Stack, source: Source) -> dict[str, list[tuple[float, Factor]]]:
    """{the denoiser's tensor: (strength, factor) of each delta that changes it}.

    Raises `BadDelta` when the stack does not fit, `BadCheckpoint` for a type of numbers that cannot be baked.
    """
    denoiser = source.denoiser
    layers = named_tensors(denoiser, stack)
    marks = [n for n in denoiser if n.endswith(layer_names.FINGERPRINTED)] or denoiser
    fingerprint = layer_names.fingerprint({n: source.tensor(n) for n in marks})
    check_fits(stack, fingerprint, stack.entries[0].delta.info.architecture, layers)
    changes = gathered(stack, layers)
    for name in changes:
        if (kind := source.header[source.prefix + name]["dtype"]) not in DTYPES:
            raise BadCheckpoint(
                f"'{source.path.name}' holds its layers as {kind}, into which nothing can be baked: "
                "use the float16 file."
            )
    return changes


def write_copy(stack: Stack, source: Source, target: Path, tick: Callable[[], None]) -> Baked:
    """Check, copy, then replace the changed tensors' bytes."""
    changes = changes_of(stack, source)
    texts = source.header.get("__metadata__") or {}
    texts = texts | {NOTE: json.dumps([*baked_before(texts), *note(stack)], ensure_ascii=False)}
    rows = {n: source.header[n] for n in source.names}
    head = json.dumps({"__metadata__": texts} | rows, ensure_ascii=False).encode()
    head += b" " * (-len(head) % 8)
    with whole_file(target) as copy, open(source.path, "rb") as original:
        copy.write(len(head).to_bytes(8, "little") + head)
        original.seek(source.begin)
        shutil.copyfileobj(original, copy, 2**24)
        effect = False
        for name, parts in changes.items():
            copy.seek(8 + len(head) + rows[source.prefix + name]["data_offsets"][0])
            weight = source.tensor(name)
            made = changed(name, weight, parts)
            effect = effect or not torch.equal(made, weight)
            copy.write(raw_bytes(made))
            tick()
        if not effect:
            raise BadDelta("The stack would change no bit of this checkpoint, its numbers or strengths are too small.")
        copy.seek(0, 2)
        size = copy.tell()
    return Baked(Stack(stack.active).concepts(), len(changes), size)


def note(stack: Stack) -> list[dict[str, Any]]:
    """What is baked, as the copy tells it."""
    return [
        {"concepts": e.delta.info.concepts, "sha256": e.delta.content_hash(), "strength": e.strength}
        for e in stack.active
    ]


def baked_before(texts: Mapping[str, str]) -> list:
    """What an earlier bake has written into the checkpoint, if anything."""
    try:
        rows = json.loads(texts.get(NOTE, "[]"))
    except (ValueError, RecursionError):
        rows = []
    return rows if isinstance(rows, list) else []


def named_tensors(denoiser: list[str], stack: Stack) -> dict[str, str]:
    """{any name that a delta file may use: tensor's name} of the matrices and 1x1 convolutions of a denoiser."""
    shape = (
        layer_names.UNetShape.from_state_dict(denoiser)
        if any(n.startswith("input_blocks.") for n in denoiser)
        else None
    )
    architecture = stack.entries[0].delta.info.architecture
    named: dict[str, str] = {}
    for name in denoiser:
        layer = name.removesuffix(".weight")
        if layer == name:
            continue
        try:
            written = layer_names.delta_name(layer, architecture, shape)
            named |= dict.fromkeys((written, *layer_names.accepted_names(layer, shape)), name)
        except BadCheckpoint:
            continue  # a tensor beside the UNet's own layers, which no delta names
    return named


def gathered(stack: Stack, layers: Mapping[str, str]) -> dict[str, list[tuple[float, Factor]]]:
    """{tensor's name: (strength, factor) of each active delta that changes it}."""
    found: dict[str, list[tuple[float, Factor]]] = {}
    for entry in stack.active:
        for name, factor in entry.delta.factors.items():
            found.setdefault(layers[name], []).append((entry.strength, factor))
    return found


def changed(name: str, weight: Tensor, parts: list[tuple[float, Factor]]) -> Tensor:
    """The weight with all changes added, of its own type and shape. Raises `BadDelta` when they do not fit."""
    if weight.dim() not in (2, 4) or math.prod(weight.shape[2:]) != 1:
        raise BadDelta(f"The layer {name} is neither a matrix nor a 1x1 convolution: load the delta's checkpoint.")
    total = weight.double().flatten(1) if weight.dtype == torch.float64 else weight.float().flatten(1)
    for strength, factor in parts:
        if (factor.up.shape[0], factor.down.shape[1]) != total.shape:
            raise BadDelta(f"The layer {name} has another size than in the delta: use the delta's checkpoint.")
        change = strength * factor.matrix()
        check_scale(name, change, weight)
        total = total + change
    made = total.view(weight.shape).to(weight.dtype)
    if not made.isfinite().all():
        raise UnlearnError(f"The layer {name} would get numbers that its type cannot hold: use a float32 checkpoint.")
    return made


def raw_bytes(tensor: Tensor) -> bytes:
    """A tensor's numbers as a safetensors file holds them."""
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()
