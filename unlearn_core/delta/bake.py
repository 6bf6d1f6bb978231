"""Deltas written into a copy of a checkpoint file: the same file with other numbers in the layers that they change.

The file is never rebuilt: header and bytes are copied, and only the changed layers' bytes are replaced. So every other
tensor, its type and the author's texts stay as they are, whatever the family of the model. Left out are what would be
untrue of the copy: hashes of the whole file, and a second set of weights (EMA) in which the concept lives on.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import BadCheckpoint, BadDelta, BadSetting, UnlearnError, one_line
from ..untrusted import CHECKPOINT_BOUNDS, read_header
from . import layer_names
from .apply import check_scale
from .atomic import NewFile, whole_file
from .base_sample import Base
from .companions import Companion, companions, placed
from .format import Factor
from .merge import parts_of
from .outputs import COPY as NOTE
from .outputs import MOST_SAID, SUFFIX, Output, prepare, size_of, texts_in
from .paths import missing, read_with, same_file
from .stack import FORGETS, Stack, check_fits

PREFIX = "model.diffusion_model."
"""Before the denoiser's names in full checkpoints; files of a denoiser alone have none."""
TWIN = "model_ema."
"""Before the names of the running average of the denoiser's weights, which some files hold beside them."""
DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}
ABOUT = "unlearn.about"
"""A sentence for people who read a file's texts; `NOTE` tells the same to programs."""
HASHES = re.compile(r"hash|sha-?(1|256)|checksum|autov\d|blake", re.IGNORECASE)
"""Names of texts that identify a file by its bytes, as modelspec.hash_sha256, sshs_model_hash and sshs_legacy_hash."""
PIECE = 2**24


@dataclass(frozen=True)
class Baked:
    """concepts: what was baked, with its strength where that is not 1. layers: number of tensors with another value
    now. bytes: size of the new file.

    left_out: tensors of the EMA copy. beside: files and folders that were placed beside it.
    """

    concepts: tuple[str, ...]
    layers: int
    bytes: int
    left_out: int = 0
    beside: tuple[Path, ...] = ()


def bake(stack: Stack, checkpoint: str | Path, out: str | Path, tick: Callable[[], None] = lambda: None) -> Baked:
    """Write `out`, a copy of `checkpoint` (.safetensors) with the stack added to its weights, whole or not at all.

    What lies beside the checkpoint and belongs to it is placed beside the copy first, then the copy itself. Sums in
    float32 and rounds once to each weight's own type, as a host does that applies the deltas. tick: after each changed
    layer. Raises `BadSetting` for a place that cannot be meant or is taken, `BadCheckpoint` for a file that is no
    checkpoint or of a type that cannot be baked, `BadDelta` for deltas of another base or without effect.
    """
    source, target = Path(checkpoint), Path(out)
    if not stack.active:
        raise BadSetting("There is nothing to bake: give at least one delta of a strength other than 0.")
    if same_file(source, target):
        raise BadSetting("The checkpoint itself is never overwritten: choose another name for the copy.")
    wanted = check_places("The copy", source, target)
    try:
        read_header(source, *CHECKPOINT_BOUNDS)
        with safe_open(source, "pt", device="cpu") as file, open(source, "rb") as original:
            return write_copy(stack, Source.read(source, file, original), target, wanted, tick)
    except (SafetensorError, OSError, RuntimeError, ValueError, KeyError) as e:
        if isinstance(e, RuntimeError) and "memory" in str(e):
            raise
        raise BadCheckpoint(f"'{source.name}' is not a readable {SUFFIX} checkpoint ({e}): download it again.") from e


def check_places(option: str, source: Path, target: Path) -> list[Companion]:
    """Check source and place before any work; what has to be placed beside the copy. Raises `UnlearnError`."""
    if source.is_dir():
        raise BadCheckpoint(
            f"'{source.name}' is a folder, and a stack is baked into a single {SUFFIX} file only: convert it first."
        )
    if source.suffix.lower() != SUFFIX:
        raise BadCheckpoint(f"'{source.name}' is not a {SUFFIX} file: convert it first.")
    if not source.is_file():
        raise BadCheckpoint(missing(source))
    wanted = companions(source, target)
    size = size_of(source) + sum(c.size for c in wanted)
    prepare([Output(option, target, SUFFIX, size, NOTE)], read_with(source))
    return wanted


@dataclass(frozen=True)
class Source:
    """A checkpoint file that is open: its header, and the byte at which its numbers begin.

    original: the same file for its bytes. prefix: what is before the names of the denoiser's tensors, "" in files of
    a denoiser alone.
    """

    path: Path
    file: safe_open
    original: BinaryIO
    header: dict[str, Any]
    begin: int
    prefix: str

    @classmethod
    def read(cls, path: Path, file: safe_open, original: BinaryIO) -> Source:
        """Of a file whose header `file` has checked: all lengths and offsets."""
        header, begin = raw_header(path)
        prefix = PREFIX if any(n.startswith(PREFIX) for n in header) else ""
        return cls(path, file, original, header, begin, prefix)

    @property
    def names(self) -> list[str]:
        """All tensors of the copy, in the header's order."""
        return [n for n in self.header if n != "__metadata__" and not n.startswith(TWIN)]

    @property
    def twins(self) -> int:
        """Number of the EMA copy's tensors, which the copy leaves out."""
        return sum(n.startswith(TWIN) for n in self.header)

    @property
    def texts(self) -> dict[str, str]:
        """The author's texts."""
        return self.header.get("__metadata__") or {}

    @property
    def denoiser(self) -> list[str]:
        """The denoiser's tensors, without the prefix."""
        return [n.removeprefix(self.prefix) for n in self.names if n.startswith(self.prefix)]

    def tensor(self, name: str) -> Tensor:
        """A tensor of the denoiser."""
        return self.file.get_tensor(self.prefix + name)

    def bytes_of(self, name: str) -> tuple[int, int]:
        """Where any tensor's numbers lie, counted from the first tensor's."""
        start, end = self.header[name]["data_offsets"]
        return start, end


def raw_header(path: Path) -> tuple[dict[str, Any], int]:
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
    check_types({layers[name] for entry in stack for name in entry.delta.factors if name in layers}, source)
    marks = [n for n in denoiser if n.endswith(layer_names.FINGERPRINTED)] or denoiser
    base = Base.of({n: source.tensor(n) for n in marks})
    check_fits(stack, base, stack.entries[0].delta.info.architecture, layers)
    return gathered(stack, layers)


def check_types(names: Collection[str], source: Source) -> None:
    """Raise `BadCheckpoint` where tensors of the denoiser are of a type that cannot hold a sum."""
    for name in names:
        if (kind := source.header[source.prefix + name]["dtype"]) not in DTYPES:
            raise BadCheckpoint(
                f"'{source.path.name}' holds its layers as {kind}, into which nothing can be baked: "
                "use the float16 file."
            )


def write_copy(
    stack: Stack, source: Source, target: Path, wanted: Sequence[Companion], tick: Callable[[], None]
) -> Baked:
    """Check, copy, replace the changed tensors' bytes, look at the result, and move all into place."""
    changes = changes_of(stack, source)
    rows = moved_together(source)
    head = json.dumps({"__metadata__": texts_of(stack, source)} | rows, ensure_ascii=False).encode()
    head += b" " * (-len(head) % 8)
    begin, numbers = 8 + len(head), sum(end - start for start, end in map(source.bytes_of, source.names))

    def place(temporary: Path, path: Path) -> None:
        with placed(wanted, lambda: not temporary.exists() and path.exists()):
            os.replace(temporary, path)

    with whole_file(target, place) as copy:
        copy.write(len(head).to_bytes(8, "little") + head)
        copy_numbers(source, copy)
        altered = 0
        for name, parts in changes.items():
            before = source.tensor(name)
            after = changed(name, before, parts)
            altered += not torch.equal(after, before)
            copy.seek(begin + rows[source.prefix + name]["data_offsets"][0])
            copy.write(raw_bytes(after))
            tick()
        if not altered:
            raise BadDelta("The stack would change no bit of this checkpoint, its numbers or strengths are too small.")
        check_copy(copy, begin + numbers, rows)
    beside = tuple(c.target for c in wanted)
    return Baked(tuple(part.in_words for part in parts_of(stack)), altered, begin + numbers, source.twins, beside)


def moved_together(source: Source) -> dict[str, dict[str, Any]]:
    """The copy's rows in the source's order; the numbers close the gaps that left out tensors leave."""
    places, at = {}, 0
    for name in sorted(source.names, key=source.bytes_of):
        start, end = source.bytes_of(name)
        places[name] = [at, at + end - start]
        at += end - start
    return {n: source.header[n] | {"data_offsets": places[n]} for n in source.names}


def copy_numbers(source: Source, copy: NewFile) -> None:
    """All tensors of the copy as the source has them, in long pieces. Raises `BadCheckpoint` when the source ends."""
    runs: list[list[int]] = []
    for start, end in sorted(map(source.bytes_of, source.names)):
        if runs and runs[-1][1] == start:
            runs[-1][1] = end
        else:
            runs.append([start, end])
    for start, end in runs:
        source.original.seek(source.begin + start)
        left = end - start
        while left:
            data = source.original.read(min(left, PIECE))
            if not data:
                raise BadCheckpoint(f"'{source.path.name}' became shorter while it was read: try again.")
            copy.write(data)
            left -= len(data)


def check_copy(copy: NewFile, size: int, rows: Mapping[str, Any]) -> None:
    """Look at the written file before it gets its name. Raises `UnlearnError`."""
    written = copy.settle()
    try:
        with safe_open(copy.path, "pt", device="cpu") as file:
            whole = written == size and set(file.keys()) == set(rows)
    except (SafetensorError, OSError):
        whole = False
    if not whole:
        raise UnlearnError("The copy was not written as it should be, so it is not kept: check the disk, try again.")


def texts_of(stack: Stack, source: Source) -> dict[str, str]:
    """The author's texts without the hashes, which are those of another file now, and what was baked."""
    kept = {n: t for n, t in source.texts.items() if not HASHES.search(n)}
    rows = [*baked_before(source.texts), *note(stack)]
    gone = [c for row in rows for c in concepts_in(row)]
    told = [f"it has forgotten {', '.join(dict.fromkeys(gone))}"] if gone else []
    told += [part.in_words for part in parts_of(stack) if part.strength < FORGETS]
    about = f"A changed copy of {source.path.name}: {'; '.join(told)}."
    return kept | {NOTE: json.dumps(rows, ensure_ascii=False), ABOUT: about}


def note(stack: Stack) -> list[dict[str, Any]]:
    """What is baked, as the copy tells it: each delta, those inside merges too."""
    return [{"concepts": [p.concept], "sha256": p.sha256, "strength": p.strength} for p in parts_of(stack)]


def baked_before(texts: Mapping[str, str]) -> list:
    """What an earlier bake has written into the checkpoint, if anything."""
    try:
        rows = json.loads(texts.get(NOTE, "[]"))
    except (ValueError, RecursionError):
        rows = []
    return rows if isinstance(rows, list) else []


def concepts_baked_into(checkpoint: Path) -> list[str]:
    """What a baked copy has forgotten, by its own note; nothing of any other file or folder."""
    return [one_line(c)[:MOST_SAID] for row in baked_before(texts_in(checkpoint)) for c in concepts_in(row)]


def concepts_in(row: object) -> list[str]:
    """The concepts that one row of `NOTE`, which another program may have written, says are forgotten."""
    named, strength = (row.get("concepts"), row.get("strength", 1)) if isinstance(row, dict) else (None, 0)
    if not (isinstance(strength, (int, float)) and strength >= FORGETS):
        return []
    return [c for c in named if isinstance(c, str)] if isinstance(named, (list, tuple)) else []


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
