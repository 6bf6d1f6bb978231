"""CLIP's byte-pair tokenizer as files in a folder, made from its bundled merge list (MIT, from OpenAI's CLIP)."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

MERGES = Path(__file__).with_name("data") / "clip_merges.txt.gz"
START, END = "<|startoftext|>", "<|endoftext|>"


def byte_symbols() -> list[str]:
    """CLIP's printable stand-ins for the 256 byte values, in its own order."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    rest = [b for b in range(256) if b not in plain]
    return [chr(b) for b in plain] + [chr(256 + i) for i in range(len(rest))]


def read_merges() -> list[tuple[str, str]]:
    """All 48,894 merges, first is strongest."""
    lines = gzip.decompress(MERGES.read_bytes()).decode("utf-8").splitlines()
    return [(first, second) for first, second in map(str.split, lines)]


def write_tokenizer(folder: Path, merges: list[tuple[str, str]]) -> int:
    """Write vocab.json, merges.txt and tokenizer_config.json for these merges; returns the number of entries."""
    symbols = byte_symbols()
    entries = [*symbols, *(s + "</w>" for s in symbols), *("".join(pair) for pair in merges), START, END]
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": 77,
        "bos_token": START,
        "eos_token": END,
        "pad_token": END,
        "unk_token": END,
    }
    for name, text in (
        ("vocab.json", json.dumps({entry: i for i, entry in enumerate(entries)}, ensure_ascii=False)),
        ("merges.txt", "#version: 0.2\n" + "\n".join(" ".join(pair) for pair in merges) + "\n"),
        ("tokenizer_config.json", json.dumps(settings, indent=1) + "\n"),
    ):
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    return len(entries)
