"""What lies beside a checkpoint and has to lie beside its copy: all of it or nothing, and only under free names."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import BadCheckpoint, BadSetting, UnlearnError
from .atomic import place_new, said_of, whole_file
from .leftovers import claim, new_name
from .paths import BESIDE, MAX_YAML, beside, same_file, tokenizer_folder, tokenizer_named

MOST_BYTES, MOST_FILES = 64 * 2**20, 100
"""Of all that lies beside a checkpoint; real tokenizers take some megabytes."""


@dataclass(frozen=True)
class Companion:
    """A file, or a folder of files, that is to be placed. files: {path inside the folder, "" for a file: bytes}."""

    target: Path
    files: dict[str, bytes]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(map(len, self.files.values()))

    def is_there(self) -> bool:
        """Whether the very same is there already."""
        if not (self.target.is_file() if "" in self.files else self.target.is_dir()):
            return False
        try:
            return read_all(self.target) == self.files
        except BadCheckpoint:
            return False

    def put(self) -> None:
        """Place it under its free name, whole or not at all. Raises `UnlearnError`."""
        if "" in self.files:
            with whole_file(self.target, place_new) as file:
                file.write(self.files[""])
        else:
            self._put_folder()

    def _put_folder(self) -> None:
        with new_name(self.target.parent) as temporary, said_of(self.target):
            try:
                temporary.mkdir()
                with claimed(temporary):
                    for name, data in self.files.items():
                        write_synced(temporary / name, data)
                    # over an empty folder at most: one with contents is never replaced
                    os.rename(temporary, self.target)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)

    def take_away(self) -> None:
        """Undo `put`; what another program has changed meanwhile stays."""
        with suppress(OSError):
            if self.is_there():
                self.target.unlink() if "" in self.files else shutil.rmtree(self.target)


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold a folder's lock, where the system can open folders."""
    handle = os.open(folder, os.O_RDONLY) if os.name != "nt" else None
    try:
        if handle is not None:
            claim(handle)
        yield
    finally:
        if handle is not None:
            os.close(handle)


def write_synced(file: Path, data: bytes) -> None:
    """Write a file of a folder that is not in its place yet."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "xb") as new:
        new.write(data)
        new.flush()
        os.fsync(new.fileno())


def companions(checkpoint: Path, out: Path) -> list[Companion]:
    """What has to be placed beside the copy `out`; what is there already and the same is left out.

    Raises `BadSetting` where a name is taken by something else, or where something lies beside the copy's name that
    would be read with it, `BadCheckpoint` for what cannot be read or cannot belong to a checkpoint.
    """
    wanted: list[Companion] = []
    moved = not same_file(out.parent, checkpoint.parent)
    for suffix in BESIDE:
        source, target = beside(checkpoint, suffix), beside(out, suffix)
        if source.is_file():
            files = read_all(source)
            if moved and suffix == ".yaml":
                files = {"": yaml_of_copy(files[""], checkpoint, out)}
            wanted.append(Companion(target, files))
        elif os.path.lexists(target):
            raise BadSetting(taken(target, "would be read with the copy"))
    folder = tokenizer_folder(checkpoint)
    if folder is not None and moved:
        wanted.append(Companion(out.parent / folder.name, read_all(folder)))
    missing = [c for c in wanted if not c.is_there()]
    for companion in missing:
        if os.path.lexists(companion.target):
            raise BadSetting(taken(companion.target, "holds something else than the one beside the checkpoint"))
    return missing


def yaml_of_copy(yaml: bytes, checkpoint: Path, out: Path) -> bytes:
    """A checkpoint's yaml for a copy in another folder: a tokenizer that it names by its full path lies there then."""
    found = tokenizer_named(yaml[:MAX_YAML], checkpoint)
    if found is None or yaml[found[1]].strip(b"'\"") == found[0].name.encode():
        return yaml
    place = str(out.parent.absolute() / found[0].name).replace("'", "''")
    return yaml[: found[1].start] + f"'{place}'".encode("utf-8", "surrogateescape") + yaml[found[1].stop :]


def taken(place: Path, why: str) -> str:
    """What to say of a name that is not free."""
    return f"'{place.name}' is in {place.parent} already and {why}: choose another name or folder for the copy."


def read_all(path: Path) -> dict[str, bytes]:
    """A file's bytes under "", or those of all files in a folder. Raises `BadCheckpoint`."""
    try:
        found = files_in(path) if path.is_dir() else [path]
        if len(found) > MOST_FILES or sum(f.stat().st_size for f in found) > MOST_BYTES:
            raise BadCheckpoint(f"'{path.name}' is too large to belong to a checkpoint: move it away.")
        if path.is_dir():
            return {f.relative_to(path).as_posix(): f.read_bytes() for f in found}
        return {"": path.read_bytes()}
    except OSError as e:
        raise BadCheckpoint(f"'{path.name}' beside the checkpoint cannot be read ({e.strerror or e}).") from e


def files_in(folder: Path) -> list[Path]:
    """All files in a folder, in order. Raises `OSError` where a part of it cannot be looked at."""

    def fail(problem: OSError) -> None:
        raise problem

    walked = os.walk(folder, onerror=fail)
    return sorted(file for where, _, names in walked for name in names if (file := Path(where, name)).is_file())


@contextmanager
def placed(wanted: Sequence[Companion], finished: Callable[[], bool]) -> Iterator[None]:
    """All of them in their places before the block; they are taken away again where one, or the block, fails.

    Only what was placed here is taken away: the very same may have been placed by another program, for its own copy.
    finished: whether the block has done its work all the same, as when Ctrl-C comes in its last moment.
    """
    own: list[Companion] = []
    try:
        for companion in wanted:
            if companion.is_there():
                continue
            # before it is placed: a Ctrl-C may come in the moment in which it has got its name
            own.append(companion)
            try:
                companion.put()
            except UnlearnError:
                own.pop()
                if not companion.is_there():
                    raise
        yield
    except BaseException:
        if not finished():
            for companion in reversed(own):
                companion.take_away()
        raise
