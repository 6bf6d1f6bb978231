"""Checkpoints, and files beside them, that no artist should open: a good one with one change each."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from .scenes import MODEL

Make = Callable[[Path], None]
UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer."
YAML, WORDS = "model.yaml", "model.words.json"


def tensors(change: Callable[[dict], object]) -> Make:
    """The checkpoint's tensors changed in place."""

    def make(place: Path) -> None:
        found = {n: t.clone() for n, t in load_file(place / MODEL).items()}
        change(found)
        save_file(found, place / MODEL)

    return make


def spoiled(key: str, value: float) -> Make:
    """One tensor full of a number."""
    return tensors(lambda found: found.update({key: torch.full_like(found[key], value)}))


def without(begin: str) -> Make:
    """All tensors of a part taken out."""
    return tensors(lambda found: [found.pop(n) for n in list(found) if n.startswith(begin)])


def text(file: str, value: str | bytes) -> Make:
    """A file beside it with other content."""
    data = value if isinstance(value, bytes) else value.encode()
    return lambda place: (place / file).write_bytes(data)


def replaced(file: str, old: str, new: str) -> Make:
    """A text in a file beside it replaced. The test of this file sees to it that the old one is there."""

    def make(place: Path) -> None:
        content = (place / file).read_text("utf-8")
        assert old in content, f"{file} has no {old!r}"
        (place / file).write_text(content.replace(old, new), "utf-8")

    return make


def words(**changed: object) -> Make:
    """The word list with other values."""

    def make(place: Path) -> None:
        table = json.loads((place / WORDS).read_text("utf-8"))
        (place / WORDS).write_text(json.dumps(table | changed), "utf-8")

    return make


def raw(change: Callable[[bytes], bytes]) -> Make:
    """The checkpoint's bytes changed."""
    return lambda place: (place / MODEL).write_bytes(change((place / MODEL).read_bytes()))


LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefghijk", "bcdefghijkl", strict=True)
)
NESTED = "[" * 20_000 + "]" * 20_000
CONV, KEYS = UNET + "input_blocks.0.0.weight", UNET + "middle_block.1.transformer_blocks.0.attn2.to_k.weight"

CHECKPOINTS: dict[str, Make] = {
    "checkpoint without bytes": raw(lambda data: b""),
    "checkpoint cut in half": raw(lambda data: data[: len(data) // 2]),
    "checkpoint with a header of 2^62": raw(lambda data: struct.pack("<Q", 2**62) + data[8:]),
    "checkpoint of zeros": raw(lambda data: bytes(1000)),
    "checkpoint that is a page": raw(lambda data: b"<!doctype html><title>Not found</title>" * 9),
    "checkpoint that is a pointer": raw(lambda data: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
    **{f"no tensors under {begin}": without(begin) for begin in (UNET, VAE, TEXT, "")},
    "no middle block": without(UNET + "middle_block"),
    "no decoder": without(VAE + "decoder"),
    "no word vectors": without(TEXT + "text_model.embeddings.token_embedding"),
    "one norm missing": without(UNET + "out.0.weight"),
    **{
        f"{key} full of {value}": spoiled(key, value)
        for key in (CONV, KEYS, TEXT + "text_model.final_layer_norm.weight")
        for value in (float("nan"), float("inf"))
    },
    "a matrix cut": tensors(lambda found: found.update({KEYS: found[KEYS][:-1].contiguous()})),
    "a matrix too wide": tensors(lambda found: found.update({KEYS: found[KEYS].repeat(1, 2)})),
    "integers for weights": tensors(lambda found: found.update({KEYS: found[KEYS].to(torch.int8)})),
    "a missing name of controls": tensors(lambda found: found.update({UNET + "out.2.\x1b[2J": found.pop(CONV)})),
    "adapters inside": tensors(
        lambda found: found.update({KEYS.replace("to_k", "processor.to_k_ip"): torch.ones(3, 3)})
    ),
    "yaml of aliases": text(YAML, LAUGHS),
    "yaml that is deep": text(YAML, NESTED),
    "yaml that is no text": text(YAML, b"\xff\xfe\x00" * 99),
    "yaml that makes objects": text(YAML, "model: !!python/object/apply:os.system ['true']\n"),
    "yaml that is a list": text(YAML, "- 1\n"),
    "yaml with controls": text(YAML, "model: {target: '\x1b[31m'}\n"),
    "yaml of 20 MB": text(YAML, "a: " + "x" * 20_000_000),
    **{
        f"yaml with {value} steps of noise": replaced(YAML, "timesteps: 1000", f"timesteps: {value}")
        for value in ("200000000", "-1", "0", ".nan", "many", "[1, 2]")
    },
    **{
        f"word list that is {what}": text(WORDS, value)
        for what, value in {
            "empty": "",
            "cut off": '{"templates": [',
            "a list": "[]",
            "a number": "5",
            "deep": NESTED,
            "no text": b"\xff\xfe\x00",
            "without anything": "{}",
        }.items()
    },
    "word list without templates": words(templates=[]),
    "word list of numbers": words(templates=[1, 2]),
    "word list with a hole": words(templates=["a {nowhere}"]),
}
"""{what is wrong with it: changes the files in a folder}."""
