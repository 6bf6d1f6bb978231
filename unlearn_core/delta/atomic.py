"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ..errors import UnlearnError


def write_whole(path: Path, data: bytes) -> None:
    """Write beside the place and move over it; the old file stays when anything fails. Raises `UnlearnError`."""
    with whole_file(path) as file:
        file.write(data)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A new file to write and seek in, which takes the place of `path` at the end of the block, or nothing does."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / f".unlearn-{secrets.token_hex(8)}.tmp"
        try:
            with open(temporary, "xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, ValueError) as e:
        if isinstance(e, OSError) and e.errno == errno.ENOSPC:
            raise UnlearnError(f"The disk of {path.parent} is full: make room and try again.") from e
        raise UnlearnError(f"'{path}' cannot be written, choose another folder or name ({e}).") from e


def write_json(file: Path, data: dict) -> None:
    """Readable JSON, whole or not at all."""
    write_whole(file, (json.dumps(data, indent=2, ensure_ascii=False) + os.linesep).encode())
