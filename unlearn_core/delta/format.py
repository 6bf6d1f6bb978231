"""One forgotten concept: low-rank changes of some layers, and the file that carries them.

The file format is taught in docs/delta-format.md. Writing is atomic and gives the same bytes for the same delta;
reading treats the file as hostile.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from ..errors import BadDelta, BadSetting, one_line
from ..untrusted import Unreadable, read_header
from .atomic import write_whole
from .info import DeltaInfo, Parent

FORMAT = 2
"""Version of the files that are written."""
RENAMED = {"1": {"check": "judge"}}
"""{older version that is still read: {a text's name of today: its name there}}."""
OPTIONAL: dict[str, Any] = {"base_name": "", "base_sample": "", "near": ()}
"""{a text that is left out where it says nothing, and that older files lack: its value then}."""
CHECK_RENAMED = {"kept_before": "preserved_before", "kept_after": "preserved_after"}
"""Numbers of the check by their names in version 1."""
SUFFIX = ".safetensors"
PARTS = (".lora_down.weight", ".lora_up.weight", ".alpha")
BASE_VERSIONS = {"sd1": "sd_v1", "sd2": "sd_v2", "sdxl": "sdxl_base_v1-0"}
MAX_HEADER = 4 * 2**20
MAX_LAYERS = 4096
MAX_ELEMENTS = 2**30
MAX_SIDE = 2**17
MAX_ALPHA = 1e6
MAX_CHANGE, MIN_CHANGE = 1e3, 1e-12
"""Root mean square of a layer's change: weights of real models lie between 1e-3 and 1."""
BLOCK = 1024
"""Rows of the matrices between the ranks that are formed at once."""


def check_shapes(down: Sequence[int], up: Sequence[int]) -> None:
    """Raise `BadDelta` where factors of these shapes make no change of a layer, or are larger than any needs to be."""
    a, b = list(down), list(up)
    if len(a) != 2 or len(b) != 2 or a[0] != b[1] or 0 in a + b:
        raise BadDelta(f"The factors of shapes {a} and {b} cannot be multiplied to a layer's change.")
    if max(a[1], b[0]) > MAX_SIDE:
        raise BadDelta(f"The factors are for a layer of {a[1]} x {b[0]}, larger than any: copy or download it again.")
    if a[0] > (most := min(a[1], b[0])):
        raise BadDelta(f"The factors have rank {a[0]}, but the layer only {most}: make it again with a smaller rank.")


@dataclass(frozen=True, eq=False)
class Factor:
    """The change of one linear layer, `alpha / rank * up @ down`. down: `[rank, in]`; up: `[out, rank]`.

    Raises `BadDelta` when they make no change of a layer (see `check_shapes`) or alpha is not a sensible number.
    """

    down: Tensor
    up: Tensor
    alpha: float

    def __post_init__(self) -> None:
        check_shapes(self.down.shape, self.up.shape)
        if not abs(self.alpha) <= MAX_ALPHA:
            raise BadDelta("The alpha of a layer is not a number of a sensible size.")
        # alpha is stored in float32: what is in memory shall be what comes back
        object.__setattr__(self, "alpha", struct.unpack("<f", struct.pack("<f", self.alpha))[0])

    @classmethod
    def within_layer(cls, down: Tensor, up: Tensor, alpha: float) -> Factor:
        """The same change by factors of any rank: where the layer has less, its own matrix between it and ones."""
        rank, size, out = len(down), down.shape[1], len(up)
        if rank <= min(size, out):
            return cls(down, up, alpha)
        matrix = (alpha / rank * (up.cpu().double() @ down.cpu().double())).float()
        pair = (matrix, torch.eye(out)) if out <= size else (torch.eye(size), matrix)
        return cls(*pair, float(min(size, out)))

    @property
    def rank(self) -> int:
        """Number of rows of down."""
        return self.down.shape[0]

    @property
    def scale(self) -> float:
        """alpha / rank."""
        return self.alpha / self.rank

    @property
    def size(self) -> int:
        """Number of weights that it changes."""
        return self.down.shape[1] * self.up.shape[0]

    def matrix(self) -> Tensor:
        """The change itself, `[out, in]`, float32."""
        return self.scale * (self.up.float() @ self.down.float())

    def square(self) -> float:
        """Squared Frobenius norm of the change, without forming it: s^2 tr((B^T B)(A A^T)), in float64.

        In blocks, so that no matrix of rank by rank is formed: a stranger chooses the rank.
        """
        a, b = plain(self.down, torch.float64), plain(self.up, torch.float64)
        blocks = range(0, self.rank, BLOCK)
        return self.scale**2 * sum(((b.T[i : i + BLOCK] @ b) * (a[i : i + BLOCK] @ a.T)).sum().item() for i in blocks)

    def check_size(self, layer: str) -> None:
        """Raise `BadDelta` for a change far over the size of any model's weights; a bound, which costs nothing."""
        a, b = (float(torch.linalg.vector_norm(t, dtype=torch.float64)) for t in (self.down, self.up))
        if not abs(self.scale) * a * b <= MAX_CHANGE * math.sqrt(self.size) * math.sqrt(self.rank):
            raise BadDelta(
                f"the change of the layer {layer} is far larger than any model's own numbers; "
                "make it again with a lower learning rate."
            )


@dataclass(frozen=True, eq=False)
class Delta:
    """Factors by layer name (see `layer_names`), in the order of their names; name: the file's stem, or ""."""

    factors: dict[str, Factor]
    info: DeltaInfo
    name: str = ""

    def __post_init__(self) -> None:
        for name in self.factors:
            # doubled underscores are how attribute paths are smuggled into loaders that set attributes by key
            if len(name) > 255 or not re.fullmatch(r"[A-Za-z0-9_.]+", name) or "__" in name:
                raise BadDelta("The delta names a layer in letters that no model uses, so it is not opened.")
        object.__setattr__(self, "factors", dict(sorted(self.factors.items())))

    @property
    def label(self) -> str:
        """What to call it in a sentence."""
        return self.name or self.info.concept

    def named(self, name: str) -> Delta:
        """The same under a file's stem."""
        return Delta(self.factors, self.info, name)

    def content_hash(self) -> str:
        """sha256 over layer names, alphas and factors as float32: the same under any file name and metadata."""
        return self._content_hash

    @cached_property
    def _content_hash(self) -> str:
        # each stack asks it of all its deltas, and a stack that is read from files is made anew with each of them
        digest = hashlib.sha256()
        for name, factor in self.factors.items():
            digest.update(f"{name} {list(factor.down.shape)} {list(factor.up.shape)}\n".encode())
            digest.update(struct.pack("<f", factor.alpha))
            for t in (factor.down, factor.up):
                digest.update(plain(t, torch.float32).numpy().astype("<f4").tobytes())
        return digest.hexdigest()

    def norm(self) -> float:
        """Frobenius norm of all changes together, without forming them."""
        total = sum(factor.square() for factor in self.factors.values())
        # rounding can leave a tiny negative sum where factors cancel
        return math.sqrt(max(total, 0.0)) if math.isfinite(total) else total

    def check_effect(self) -> None:
        """Raise `BadDelta` when applying it would do nothing or spoil the model."""
        squares = {name: factor.square() for name, factor in self.factors.items()}
        if not math.isfinite(sum(squares.values())):
            raise BadDelta(f"'{self.label}' has numbers that are not finite: make it again with a lower learning rate.")
        sizes = {name: math.sqrt(max(square, 0.0) / self.factors[name].size) for name, square in squares.items()}
        if max(sizes.values(), default=0.0) < MIN_CHANGE:
            raise BadDelta(f"'{self.label}' would change nothing, its numbers are too small: make it again.")
        if sizes[largest := max(sizes, key=lambda name: sizes[name])] > MAX_CHANGE:
            raise BadDelta(
                f"'{self.label}' changes the layer {largest} by far more than any model's own numbers: "
                "make it again with a lower learning rate."
            )

    def rounded(self, dtype: torch.dtype = torch.float16) -> Delta:
        """The delta as a file of this dtype will give it back, in float32 on the CPU. Raises `BadDelta` on overflow."""

        def through(t: Tensor) -> Tensor:
            return plain(plain(t, dtype), torch.float32)

        factors = {name: Factor(through(f.down), through(f.up), f.alpha) for name, f in self.factors.items()}
        delta = Delta(factors, self.info, self.name)
        delta.check_effect()
        return delta


def plain(t: Tensor, dtype: torch.dtype) -> Tensor:
    """A contiguous copy on the CPU, free of autograd and of shared storage."""
    return t.detach().to(device="cpu", dtype=dtype).contiguous().clone()


def save(delta: Delta, path: str | Path) -> str:
    """Write a `.safetensors` file whole or not at all, folders included; returns the file's sha256.

    The file gives back what is in memory: its type is float16 when that holds every value (see `Delta.rounded`), else
    float32 (merges, whose folded strengths float16 would round). Raises `BadSetting` for another suffix, `BadDelta`
    for a delta without effect, `UnlearnError` when the file cannot be written.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise BadSetting(f"A delta is saved as {SUFFIX}: rename '{path.name}' to end so.")
    delta.check_effect()
    data = canonical(to_bytes(tensors(delta), metadata(delta)))
    if int.from_bytes(data[:8], "little") > MAX_HEADER or len(delta.factors) > MAX_LAYERS:
        raise BadDelta(f"'{path.name}' would hold more layers or texts than a delta may: merge fewer deltas.")
    write_whole(path, data)
    return hashlib.sha256(data).hexdigest()


def tensors(delta: Delta) -> dict[str, Tensor]:
    """The delta as a LoRA file's tensors: `NAME.lora_down.weight`, `NAME.lora_up.weight` and `NAME.alpha` a layer."""
    whole: dict[str, Tensor] = {}
    for name, factor in delta.factors.items():
        values = (plain(factor.down, torch.float32), plain(factor.up, torch.float32), torch.tensor(factor.alpha))
        whole |= {name + part: t for part, t in zip(PARTS, values, strict=True)}
    halves = {name: t.half() for name, t in whole.items() if not name.endswith(PARTS[2])}
    lossless = all(torch.equal(t.float(), whole[name]) for name, t in halves.items())
    return whole | halves if lossless else whole


def metadata(delta: Delta) -> dict[str, str]:
    """The file's texts: all of `DeltaInfo` as JSON under `unlearn.*`, and the `ss_*` that web UIs sort files by."""
    info = delta.info
    texts = {"unlearn.format": str(FORMAT)}
    for name, value in asdict(info).items():
        if name in OPTIONAL and value == OPTIONAL[name]:
            continue
        texts[f"unlearn.{name}"] = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)

    def common(values: set[float]) -> str:
        return f"{values.pop():g}" if len(values) == 1 else "Dynamic"

    texts["ss_network_module"] = "networks.lora"
    texts["ss_network_dim"] = common({f.rank for f in delta.factors.values()})
    texts["ss_network_alpha"] = common({f.alpha for f in delta.factors.values()})
    texts["ss_base_model_version"] = BASE_VERSIONS.get(info.architecture, info.architecture)
    texts["ss_v2"] = str(info.architecture == "sd2")
    # no `ss_output_name`: web UIs would write that in place of the file's name into a prompt
    return texts


def canonical(data: bytes) -> bytes:
    """A safetensors file with its header in sorted order: the library's own order differs from run to run."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:end]), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[end:]


OF_CHECKPOINTS = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.", "conditioner."
"""How tensors are called in the files of whole models."""


def load(path: str | Path) -> Delta:
    """Read a delta, in float32 on the CPU; its name is the file's stem.

    The file is taken to be hostile: raises `BadDelta` with a sentence for everything that is not a whole, sensible
    delta of a known format. Never unpickles.
    """
    path = Path(path)
    if path.suffix.lower() in {".ckpt", ".pt", ".pth", ".bin", ".pkl"}:
        raise BadDelta(f"'{path.name}' is a pickle file, which can run code when opened: convert it to {SUFFIX} first.")
    if path.suffix.lower() != SUFFIX:
        raise BadDelta(f"'{path.name}' is not a {SUFFIX} file: give the delta's own file.")
    if not os.path.isfile(path):  # also where a disk is not there, of which pathlib raises
        raise BadDelta(f"There is no file {path}: check the name and the folder.")
    try:
        header = read_header(path, MAX_HEADER, MAX_LAYERS * len(PARTS))
        if any(name.startswith(OF_CHECKPOINTS) for name in header.tensors):
            raise BadDelta("it is a whole checkpoint, and no delta: give the small file that was made for it.")
        with safe_open(path, "pt", device="cpu") as file:
            info = read_info(header.metadata)
            delta = Delta(read_factors(file), info, one_line(path.stem))
        delta.check_effect()
        return delta
    except Unreadable as e:
        raise BadDelta(f"'{path.name}' is damaged or not a delta: {e}; copy or download it again.") from e
    except BadDelta as e:
        raise BadDelta(f"'{path.name}' cannot be used: {e}") from e
    except PermissionError as e:
        raise BadDelta(f"'{path.name}' cannot be read ({e.strerror}): ask for the right to read it.") from e
    except (SafetensorError, OSError, RuntimeError, ValueError, KeyError, AttributeError) as e:
        raise BadDelta(f"'{path.name}' is damaged or not a delta: copy or download it again ({e}).") from e


def read_info(texts: Mapping[str, str]) -> DeltaInfo:
    """`DeltaInfo` from a file's metadata; `BadDelta` when something is missing, of a wrong type or too new."""
    version = texts.get("unlearn.format")
    if version is None:
        raise BadDelta("it is an ordinary LoRA, not made by this tool; use your host's LoRA loader.")
    if version != str(FORMAT) and version not in RENAMED:
        raise BadDelta(f"its format {version[:20]!a} is not known here; update this tool.")
    older = RENAMED.get(version, {})
    try:
        written = {f.name: f"unlearn.{older.get(f.name, f.name)}" for f in fields(DeltaInfo)}
        values = {n: json.loads(texts[key]) for n, key in written.items() if key in texts or n not in OPTIONAL}
        if older and isinstance(values["check"], dict):
            values["check"] = {CHECK_RENAMED.get(name, name): v for name, v in values["check"].items()}
        for name in ("parents", "merged"):
            values[name] = tuple(Parent(**row) for row in values[name])
        return DeltaInfo(**values)
    except KeyError as e:
        raise BadDelta(f"its metadata lacks {e}; make it again.") from e
    except (TypeError, ValueError, RecursionError) as e:
        raise BadDelta("its metadata is not what this tool writes; make it again.") from e


def read_factors(file: safe_open) -> dict[str, Factor]:
    """All factors of an open file, checked before anything large is read. Raises `BadDelta`."""
    names = list(file.keys())
    layers = sorted({name.removesuffix(part) for name in names for part in PARTS if name.endswith(part)})
    if not layers or sorted(layer + part for layer in layers for part in PARTS) != sorted(names):
        raise BadDelta("it does not have exactly lora_down, lora_up and alpha for each layer; make it again.")
    if sum(math.prod(file.get_slice(name).get_shape()) for name in names) > MAX_ELEMENTS:
        raise BadDelta("it is larger than any delta; make it again with a smaller rank.")
    for layer in layers:
        check_shapes(*(file.get_slice(layer + part).get_shape() for part in PARTS[:2]))
    factors = {}
    for layer in layers:
        down, up, alpha = (file.get_tensor(layer + part) for part in PARTS)
        if any(t.dtype not in (torch.float16, torch.bfloat16, torch.float32) for t in (down, up, alpha)):
            raise BadDelta("its numbers are of a type other than float16, bfloat16 and float32; make it again.")
        if alpha.numel() != 1 or not all(bool(t.isfinite().all()) for t in (down, up, alpha)):
            raise BadDelta("it contains numbers that are not finite; make it again with a lower learning rate.")
        factors[layer] = Factor(plain(down, torch.float32), plain(up, torch.float32), alpha.item())
        factors[layer].check_size(layer)
    return factors
