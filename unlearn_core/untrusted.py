"""Files that anybody may have made, read within bounds before anything is built from them."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from .errors import one_line

MAX_NAME = 512
MAX_TEXTS = 4096
CHECKPOINT_BOUNDS = 16 * 2**20, 20_000
"""Most bytes of a checkpoint's header, and most tensors that it names."""
MAX_DIMENSIONS = 8
MAX_SIDE = 2**40
SHOWN = 3
"""Names that a message lists before it only counts."""


class Unreadable(ValueError):
    """A file is not what it should be; the message is a clause that ends in what is wrong with it."""

    def __init__(self, message: object):
        super().__init__(one_line(message))


@dataclass(frozen=True)
class Header:
    """What a safetensors file says before its numbers begin.

    tensors: {name: (type, shape)}. metadata: the author's texts.
    """

    tensors: Mapping[str, tuple[str, tuple[int, ...]]]
    metadata: Mapping[str, str]


def opened(path: Path) -> BinaryIO:
    """An ordinary file, open to be read. Raises `Unreadable` for anything else: a pipe would be waited for. OSError."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise Unreadable("it is no ordinary file")
    return open(path, "rb")


def read_header(path: Path, most_bytes: int, most_tensors: int) -> Header:
    """A safetensors file's header, its size looked at before it is read. Raises `Unreadable` and OSError.

    The library checks offsets and lengths; it lets names appear twice.
    """
    data = parse_json(header_bytes(path, most_bytes), "its header")
    if not isinstance(data, dict):
        raise Unreadable("its header is not a table of tensors")
    texts = data.pop("__metadata__", None) or {}
    if not isinstance(texts, dict) or not all(isinstance(v, str) for v in texts.values()):
        raise Unreadable("its header holds something else than texts beside the tensors")
    if len(texts) > MAX_TEXTS:
        raise Unreadable(f"its header holds {len(texts)} texts, at most {MAX_TEXTS} are read")
    if len(data) > most_tensors:
        raise Unreadable(f"its header names {len(data)} tensors, at most {most_tensors} are read")
    return Header({name: described(name, row) for name, row in data.items()}, texts)


def stamp(file: Path) -> tuple[int, int]:
    """When a file was changed and how long it is; zeros where there is none."""
    try:
        facts = file.stat()
    except OSError:
        return 0, 0
    return facts.st_mtime_ns, facts.st_size


def header_bytes(path: Path, most_bytes: int) -> bytes:
    """The same as it lies in the file, of at most so many bytes: the library takes 25 times as many to read it."""
    with opened(path) as file:
        whole = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if length > most_bytes:
            file.seek(0)
            if file.read(64).lstrip().startswith((b"<", b"version https://git-lfs")):
                raise Unreadable("a web page or a pointer was saved in its place: download the file itself again")
            raise Unreadable(f"its header is too large ({length} bytes, at most {most_bytes})")
        if whole < 8 + length or length < 2:
            raise Unreadable("the file is damaged: it ends before its header does")
        return file.read(length)


def described(name: str, row: Any) -> tuple[str, tuple[int, ...]]:
    """(type, shape) of a tensor from a header's row. Raises `Unreadable`."""
    if len(name) > MAX_NAME or not name.isprintable():
        raise Unreadable(f"it names a tensor in letters that no model uses ('{name[:60]}')")
    shape = row.get("shape") if isinstance(row, dict) else None
    if not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS or not all(map(is_side, shape)):
        raise Unreadable(f"it gives the tensor '{name}' no proper shape")
    return str(row.get("dtype")), tuple(shape)


def is_side(value: Any) -> bool:
    """Whether a number can be the side of a tensor."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_SIDE


def read_text(path: Path, most_bytes: int) -> str:
    """A text file of at most `most_bytes` bytes, with or without a byte order mark. Raises `Unreadable` and OSError."""
    with opened(path) as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise Unreadable(f"it is larger than {most_bytes // 1024} kB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise Unreadable("it is not a text in UTF-8") from e


def read_json(path: Path, most_bytes: int) -> Any:
    """Plain JSON of at most `most_bytes` bytes. Raises `Unreadable` and OSError."""
    return parse_json(read_text(path, most_bytes), "it")


def parse_json(text: str | bytes, what: str) -> Any:
    """JSON without NaN, infinity, names that appear twice and nesting without end. Raises `Unreadable`."""
    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=no_constant)
    except Unreadable as e:
        raise Unreadable(f"{what} {e}") from e
    except RecursionError as e:
        raise Unreadable(f"{what} is nested too deep") from e
    except ValueError as e:
        raise Unreadable(f"{what} is not JSON ({e})") from e


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON table whose names are all different."""
    table = dict(pairs)
    if len(table) < len(pairs):
        raise Unreadable("names one thing twice")
    return table


def no_constant(text: str) -> NoReturn:
    """Refuse NaN and Infinity, which JSON does not have."""
    raise Unreadable(f"holds {text}, which is not a number")


def listed(names: Iterable[str]) -> str:
    """The first names and how many more there are."""
    found = sorted(names)
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return ", ".join(found[:SHOWN]) + more
