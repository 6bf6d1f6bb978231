"""Deltas that no artist should open, made from a good one by one change each."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file

from unlearn_core.delta import format as delta_file

from .scenes import FIRST

HOSTILE = "hostile.safetensors"
Make = Callable[[Path], None]


def parts(place: Path) -> tuple[dict, dict[str, str]]:
    """(tensors, texts) of a good delta."""
    delta = delta_file.load(place / FIRST)
    return delta_file.tensors(delta), delta_file.metadata(delta)


def raw(change: Callable[[bytes], bytes]) -> Make:
    """The file's bytes, changed."""
    return lambda place: (place / HOSTILE).write_bytes(change((place / FIRST).read_bytes()))


def header(change: Callable[[dict], object]) -> Make:
    """The file's header, changed as text or in place, with a right length in front."""

    def make(place: Path) -> None:
        data = (place / FIRST).read_bytes()
        end = 8 + int.from_bytes(data[:8], "little")
        table = json.loads(data[8:end])
        changed = change(table)
        text = changed if isinstance(changed, bytes) else json.dumps(table).encode()
        (place / HOSTILE).write_bytes(struct.pack("<Q", len(text)) + text + data[end:])

    return make


def tensors(change: Callable[[dict], object]) -> Make:
    """Tensors changed in place."""

    def make(place: Path) -> None:
        found, texts = parts(place)
        change(found)
        save_file(found, place / HOSTILE, texts)

    return make


def texts(**changed: str | None) -> Make:
    """Metadata changed; None takes one out."""

    def make(place: Path) -> None:
        found, known = parts(place)
        for name, value in changed.items():
            key = f"unlearn.{name}"
            known.pop(key) if value is None else known.update({key: value})
        save_file(found, place / HOSTILE, known)

    return make


def end(name: str, value: Callable[[torch.Tensor], torch.Tensor]) -> Make:
    """The first tensor with this end of its name, changed."""

    def change(found: dict) -> None:
        key = next(n for n in sorted(found) if n.endswith(name))
        found[key] = value(found[key]).contiguous()

    return tensors(change)


def renamed(new: str) -> Make:
    """A layer under another name."""

    def change(found: dict) -> None:
        old = sorted(found)[0].split(".alpha")[0].split(".lora_")[0]
        for part in (".alpha", ".lora_down.weight", ".lora_up.weight"):
            found[new + part] = found.pop(old + part)

    return tensors(change)


def bomb(rank: int) -> Make:
    """Every layer with an absurd rank, few bytes a row: an edge of the format."""

    def change(found: dict) -> None:
        key = next(n for n in sorted(found) if n.endswith("lora_down.weight")).removesuffix("lora_down.weight")
        found[key + "lora_down.weight"] = torch.ones(rank, 1).half()
        found[key + "lora_up.weight"] = torch.ones(1, rank).half()

    return tensors(change)


DOWN, UP, ALPHA = "lora_down.weight", "lora_up.weight", ".alpha"
NESTED = "[" * 20_000 + "]" * 20_000
LAYER_NAMES = ("../../x", "a\x1b[2J", "x.__class__", "é" * 10, "x" * 300, "", "a b", "a\nb", "a\u202eb", "a/b")
FIELDS = ("concept", "kind", "anchor", "architecture", "prediction_type", "base_fingerprint", "parents", "config")
FIELDS += ("prompts", "check", "steps", "stopped", "merged")
VALUES = {"null": "null", "a nested list": NESTED, "no JSON": "{", "controls": '"\\u001b[31m\\u202e"', "nothing": None}

DELTAS: dict[str, Make] = {
    "no bytes": raw(lambda data: b""),
    "seven bytes": raw(lambda data: data[:7]),
    "cut in its header": raw(lambda data: data[:100]),
    "cut in its tensors": raw(lambda data: data[:-100]),
    "more bytes than told": raw(lambda data: data + bytes(100)),
    "zeros": raw(lambda data: bytes(len(data))),
    "a header of 2^63 bytes": raw(lambda data: struct.pack("<Q", 2**63) + data[8:]),
    "a header of 16 MB of spaces": raw(lambda data: struct.pack("<Q", 2**24) + b" " * 2**24),
    "a zip": raw(lambda data: b"PK\x03\x04" + data),
    "a pickle": raw(lambda data: b"\x80\x02}q\x00." + data),
    "a picture": raw(lambda data: b"\x89PNG\r\n\x1a\n" + data),
    "text": raw(lambda data: b"<html><script>alert(1)</script></html>"),
    "header is a list": header(lambda table: b"[]"),
    "header is deep": header(lambda table: NESTED.encode()),
    "header is no text": header(lambda table: b"\xff\xfe" * 50),
    "header names one thing twice": header(lambda table: b'{"a":{},"a":{}}'),
    "200,000 tensors": header(
        lambda table: json.dumps(
            {f"t{i}.alpha": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]} for i in range(200_000)}
        ).encode()
    ),
    "a tensor beyond the end": header(
        lambda table: next(v for k, v in table.items() if k[0] != "_").update(data_offsets=[0, 2**40])
    ),
    "negative offsets": header(
        lambda table: next(v for k, v in table.items() if k[0] != "_").update(data_offsets=[-4, 0])
    ),
    "a shape of 2^62": header(lambda table: next(v for k, v in table.items() if k[0] != "_").update(shape=[2**31] * 2)),
    "unknown type": header(lambda table: next(v for k, v in table.items() if k[0] != "_").update(dtype="X9")),
    "metadata is a number": header(lambda table: table.update(__metadata__=5)),
    "metadata of numbers": header(lambda table: table["__metadata__"].update({"unlearn.format": 2})),
    "10 MB of metadata": header(lambda table: table["__metadata__"].update(x="y" * 10_000_000)),
    "100,000 texts": header(lambda table: table["__metadata__"].update({f"k{i}": "" for i in range(100_000)})),
    "an ordinary LoRA": header(lambda table: table.pop("__metadata__") and None),
    **{f"rank {rank}": bomb(rank) for rank in (2, 129, 20_000, 200_000)},
    **{f"layer named {name!a}": renamed(name) for name in LAYER_NAMES},
    **{
        f"{name} of {value}": end(name, lambda t, value=value: torch.full_like(t.float(), value))
        for name in (DOWN, UP, ALPHA)
        for value in (float("nan"), float("inf"), -float("inf"), 3e38)
    },
    **{
        f"{name} as {dtype}": end(name, lambda t, dtype=dtype: t.to(dtype))
        for name in (DOWN, UP, ALPHA)
        for dtype in (torch.int64, torch.float64, torch.bool, torch.float8_e4m3fn)
    },
    **{f"{name} without rows": end(name, lambda t: t[:0]) for name in (DOWN, UP)},
    **{f"{name} as one row": end(name, lambda t: t.flatten()) for name in (DOWN, UP)},
    **{f"{name} in five dimensions": end(name, lambda t: t[None, None, None]) for name in (DOWN, UP)},
    "alpha of many": end(ALPHA, lambda t: torch.ones(7)),
    "all zeros": tensors(lambda found: found.update({n: torch.zeros_like(t) for n, t in found.items()})),
    "all tiny": tensors(lambda found: found.update({n: torch.full_like(t.float(), 1e-30) for n, t in found.items()})),
    "no up": tensors(lambda found: [found.pop(n) for n in list(found) if n.endswith(UP)]),
    "no alpha": tensors(lambda found: [found.pop(n) for n in list(found) if n.endswith(ALPHA)]),
    "more tensors": tensors(lambda found: found.update(x=torch.ones(2))),
    "format 99": texts(format="99"),
    "format of controls": texts(format="\x1b]0;owned\x07"),
    "no format": texts(format=None),
    **{f"{field} is {what}": texts(**{field: value}) for field in FIELDS for what, value in VALUES.items()},
}
"""{what is wrong with it: makes the file in a folder}."""
