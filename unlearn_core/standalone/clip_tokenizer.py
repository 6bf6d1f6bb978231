"""CLIP's byte-pair tokenizer as files in a folder, made from its bundled merge list (MIT, from OpenAI's CLIP)."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..errors import BadCheckpoint
from ..untrusted import Unreadable, read_json, read_text

MERGES = Path(__file__).with_name("data") / "clip_merges.txt.gz"
START, END = "<|startoftext|>", "<|endoftext|>"
SPECIAL = {"bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END}
MAX_FILE, MAX_ENTRIES, MAX_ENTRY, MAX_ADDED = 16 * 2**20, 2**18, 256, 1000


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
    write_files(folder, {entry: i for i, entry in enumerate(entries)}, merges, SPECIAL)
    return len(entries)


def write_files(
    folder: Path, vocabulary: Mapping[str, int], merges: list[tuple[str, str]], special: Mapping[str, str]
) -> None:
    """A tokenizer's three files."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, **special}
    for name, text in (
        ("vocab.json", json.dumps(vocabulary, ensure_ascii=False)),
        ("merges.txt", "#version: 0.2\n" + "\n".join(" ".join(pair) for pair in merges) + "\n"),
        ("tokenizer_config.json", json.dumps(settings, indent=1) + "\n"),
    ):
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


def standard_tokenizer() -> Any:
    """CLIP's own, from the bundled merge list."""
    from transformers import CLIPTokenizer

    with TemporaryDirectory() as made:
        write_tokenizer(Path(made), read_merges())
        return CLIPTokenizer.from_pretrained(made, local_files_only=True)


def read_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder, made anew from its entries, merges and special tokens alone.

    Nothing else in the folder is looked at: no code, no class and no template that it may name. Raises
    `BadCheckpoint`.
    """
    from transformers import CLIPTokenizer

    try:
        vocabulary, merges, added = read_entries(folder)
        special = read_special(folder, vocabulary)
        with TemporaryDirectory() as made:
            write_files(Path(made), vocabulary, merges, special)
            tokenizer = CLIPTokenizer.from_pretrained(made, local_files_only=True)
        if added:
            tokenizer.add_tokens(added)
        if tokenizer.convert_tokens_to_ids(list(special.values())) != [vocabulary[t] for t in special.values()]:
            raise Unreadable("its special tokens have numbers of their own")
    except Unreadable as e:
        raise BadCheckpoint(f"The tokenizer in '{folder.name}' cannot be used: {e}; copy or download it again.") from e
    except OSError as e:
        raise BadCheckpoint(
            f"The tokenizer in '{folder.name}' cannot be read ({e.strerror or type(e).__name__}: "
            f"{Path(str(e.filename)).name}); copy or download it again."
        ) from e
    except Exception as e:  # the tokenizers library raises plain exceptions
        raise BadCheckpoint(f"The tokenizer in '{folder.name}' is damaged ({e}); copy or download it again.") from e
    return tokenizer


def read_entries(folder: Path) -> tuple[dict[str, int], list[tuple[str, str]], list[str]]:
    """(entries and their numbers, merges, words added later) of either form. Raises `Unreadable` and OSError."""
    added: list[Any] = []
    if (folder / "vocab.json").is_file():
        vocabulary: Any = read_json(folder / "vocab.json", MAX_FILE)
        lines = read_text(folder / "merges.txt", MAX_FILE).splitlines()
        merges: list[Any] = [line.split(" ") for line in lines if line and not line.startswith("#version")]
        if (folder / "added_tokens.json").is_file():
            added = sorted(checked_vocabulary(read_json(folder / "added_tokens.json", MAX_FILE)).items(), key=number)
    else:
        whole = read_json(folder / "tokenizer.json", MAX_FILE)
        model = whole.get("model") if isinstance(whole, dict) else None
        if not isinstance(model, dict) or model.get("type", "BPE") != "BPE":
            raise Unreadable("its tokenizer.json is not one of CLIP's kind")
        vocabulary, pairs, rows = model.get("vocab"), model.get("merges"), whole.get("added_tokens") or []
        if not isinstance(pairs, list) or not isinstance(rows, list):
            raise Unreadable("its tokenizer.json has no list of merges")
        merges = [pair.split(" ") if isinstance(pair, str) else pair for pair in pairs]
        named = {
            r.get("content"): r.get("id") for r in rows if isinstance(r, dict) and isinstance(r.get("content"), str)
        }
        added = sorted(checked_vocabulary(named).items(), key=number)
    vocabulary = checked_vocabulary(vocabulary)
    if max(vocabulary.values(), default=-1) != len(vocabulary) - 1:
        raise Unreadable("its entries are not numbered from 0 on")
    new = [(word, at) for word, at in added if word not in vocabulary]
    if [at for _, at in new] != list(range(len(vocabulary), len(vocabulary) + len(new))) or len(new) > MAX_ADDED:
        raise Unreadable("its added tokens are not numbered on from its entries")
    return vocabulary, checked_merges(merges), [word for word, _ in new]


def number(row: tuple[str, int]) -> int:
    """An entry's own."""
    return row[1]


def checked_vocabulary(value: Any) -> dict[str, int]:
    """Entries of a sensible length with numbers of their own. Raises `Unreadable`."""
    if not isinstance(value, dict) or not len(value) <= MAX_ENTRIES:
        raise Unreadable("its vocabulary is not a table of a sensible size")
    if not all(type(n) is int and 0 <= n < 2 * MAX_ENTRIES and len(word) <= MAX_ENTRY for word, n in value.items()):
        raise Unreadable("its vocabulary holds entries that are too long or have no number")
    if len(set(value.values())) < len(value):
        raise Unreadable("two entries of its vocabulary have one number")
    return value


def checked_merges(rows: list[Any]) -> list[tuple[str, str]]:
    """Pairs of parts. Raises `Unreadable`."""
    if len(rows) > MAX_ENTRIES:
        raise Unreadable("it has more merges than any tokenizer")
    for row in rows:
        whole = isinstance(row, (list, tuple)) and len(row) == 2 and all(isinstance(part, str) for part in row)
        if not whole or not all(0 < len(part) <= MAX_ENTRY and not re.search(r"\s", part) for part in row):
            raise Unreadable("its merges are not pairs of parts")
    return [(first, second) for first, second in rows]


def read_special(folder: Path, vocabulary: Mapping[str, int]) -> dict[str, str]:
    """{kind: token} of start, end, filling and unknown words, all in the vocabulary. Raises `Unreadable`, OSError."""
    found = dict(SPECIAL)
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if not (folder / name).is_file():
            continue
        told = read_json(folder / name, MAX_FILE)
        if not isinstance(told, dict):
            raise Unreadable(f"its {name} is not a table")
        for kind in found:
            value = told.get(kind)
            value = value.get("content") if isinstance(value, dict) else value
            if isinstance(value, str) and value:
                found[kind] = value
    if odd := [kind for kind, token in found.items() if token not in vocabulary]:
        raise Unreadable(f"its vocabulary lacks the {odd[0]} '{found[odd[0]][:40]}'")
    return found
