"""What can be known of places to write to before any work: no input is harmed, names are right, the disk has room."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import BadSetting, UnlearnError, one_line
from ..untrusted import CHECKPOINT_BOUNDS, Unreadable, read_header, read_json
from .atomic import why_not_written
from .leftovers import new_name, sweep
from .paths import Place, is_inside, same_file, same_place, why_no_file

SUFFIX = ".safetensors"
DELTA, COPY = "unlearn.format", "unlearn.baked"
"""Texts in a file's header by which it is known as a delta, or as a baked copy."""
SIGNED = b"tEXtSoftware\0unlearn"
"""Bytes at the beginning of a picture that this tool has written."""
REPORTED = {"concept", "check", "seed"}
"""What every report names."""
MOST_SAID = 200
"""Characters of a name out of a file that a message repeats."""
MARGIN = 4 * 2**20
"""Bytes that stay free beside what is written."""
TEXT_SIZE, PICTURE_SIZE = 2**20, 8 * 2**20
"""Bytes that a report, and a page of pictures, take at most in ordinary runs."""
DELTA_SHARE = 5e-4
"""Of a checkpoint's bytes, what a delta takes for each rank: twice what it is of Stable Diffusion XL in float16."""
DEVICES = re.compile(r"(con|prn|aux|nul|(com|lpt)[0-9¹²³])(\..*)?", re.IGNORECASE)


class Output(NamedTuple):
    """A file that will be written. option: where it was asked for; suffix: "" for any; size: bytes, about.

    mark: the text in the header of a `.safetensors` file that may be replaced. Other files, pictures and reports that
    are not this tool's are somebody's work, and None means that any may be. concept: what is forgotten by the file; a
    delta of anything else stays.
    """

    option: str
    file: Path | None
    suffix: str = ""
    size: int = TEXT_SIZE
    mark: str | None = DELTA
    concept: str = ""


def prepare(outputs: Sequence[Output], inputs: Iterable[Place]) -> None:
    """Everything that can be checked before the work; folders are made. Raises `UnlearnError`.

    inputs: see `paths.read_with`.
    """
    check_outputs(outputs, inputs)
    check_room([(o.file.parent, o.size) for o in outputs if o.file])
    for output in outputs:
        check_writable(output.file)


def check_outputs(outputs: Iterable[Output], inputs: Iterable[Place]) -> None:
    """Refuse outputs that would overwrite an input, each other or a stranger's file, or that cannot be files.

    Links are followed, and of what is there no more than the header is read. Raises `BadSetting`.
    """
    known = list(inputs)
    earlier: list[Output] = []
    for output in outputs:
        if output.file is None:
            continue
        option, file = output.option, output.file
        check_possible(option, file)
        for what, place in known:
            if same_file(file, place) or is_inside(place, file):
                raise BadSetting(f"{option} would overwrite {what} '{place.name or place}': choose another name.")
        for other in earlier:
            if other.file is not None and same_place(file, other.file):
                raise BadSetting(
                    f"{other.option} and {option} name the same file '{file.name}': give each its own name."
                )
        check_kind(output, file)
        earlier.append(output)


def check_possible(option: str, file: Path) -> None:
    """Refuse a name that no file can have on this system. Raises `BadSetting`."""
    if "\0" in str(file) or (os.name == "nt" and (DEVICES.fullmatch(file.name) or ":" in file.name)):
        raise BadSetting(f"{option}: no file can be called {file.name!r}: choose another name.")
    if file.suffix.lower() == SUFFIX and not is_text(file):
        raise BadSetting(
            f"{option}: '{shortened(file)}' holds bytes that are no text, so the file could not be read again: choose "
            "another folder or name."
        )
    if why := why_no_file(file):
        raise BadSetting(f"{option}: '{shortened(file)}' cannot be a file ({why}): choose another name.")


def is_text(file: Path) -> bool:
    """Whether a path can be written in UTF-8, without which safetensors opens no file."""
    try:
        return bool(str(file).encode())
    except UnicodeEncodeError:
        return False


def check_kind(output: Output, file: Path) -> None:
    """Refuse a wrong suffix, and a name behind which there is something that must stay. Raises `BadSetting`."""
    option, suffix = output.option, output.suffix
    if file.is_dir():
        raise BadSetting(f"{option} is the folder '{file}': add a file name.")
    if suffix and file.suffix != suffix and (suffix == SUFFIX or file.suffix.lower() != suffix):
        wanted = "give it a name before that" if file.name == suffix else f"rename '{file.name}'"
        raise BadSetting(f"{option} has to end in {suffix}: {wanted}.")
    if not file.exists():
        return
    if not file.is_file():
        raise BadSetting(f"{option}: '{file}' is a device and not a file: choose another name.")
    if output.mark is not None and not may_be_replaced(file, output.mark):
        raise BadSetting(
            f"{option}: '{file.name}' is there already and is something else: choose another name, or move it away."
        )
    others = concepts_in(file) if output.concept else ()
    if others and output.concept.casefold() not in map(str.casefold, others):
        raise BadSetting(
            f"{option}: '{file.name}' is there already, a delta of '{others[0]}': choose another name, or move it away."
        )


def shortened(file: Path) -> str:
    """A path of any length for a sentence."""
    return text if len(text := str(file)) < 300 else f"{text[:200]}...{text[-80:]}"


def may_be_replaced(file: Path, mark: str) -> bool:
    """Whether an existing file is empty or this tool's, as its header, its signature or its words say."""
    kind = file.suffix.lower()
    try:
        if not file.stat().st_size:
            return True
        if kind == SUFFIX:
            return mark in texts_in(file)
        if kind == ".json":
            return is_report(file)
        return is_signed(file)
    except OSError:
        return False


def is_signed(file: Path) -> bool:
    """Whether a picture is this tool's, as it says itself; not of one that cannot be read."""
    try:
        with open(file, "rb") as opened:
            return SIGNED in opened.read(2**10)
    except OSError:
        return False


def is_report(file: Path) -> bool:
    """Whether a JSON file is a report of a run."""
    try:
        found = read_json(file, 8 * TEXT_SIZE)
    except Unreadable:
        return False
    return isinstance(found, dict) and found.keys() >= REPORTED


def concepts_in(file: Path) -> tuple[str, ...]:
    """What a delta's header says that it forgets, and as which it was asked for ("ink" by "ink style").

    () for files of other kinds, and what cannot be read.
    """
    texts = texts_in(file)
    try:
        concept, config = (json.loads(texts.get(f"unlearn.{name}", "null")) for name in ("concept", "config"))
    except (ValueError, RecursionError):
        return ()
    found = concept, config.get("concept") if isinstance(config, dict) else None
    return tuple(one_line(name)[:MOST_SAID] for name in found if isinstance(name, str) and name)


def texts_in(file: Path) -> Mapping[str, str]:
    """What a `.safetensors` file of any size says beside its tensors; nothing where it cannot be read."""
    try:
        return read_header(file, *CHECKPOINT_BOUNDS).metadata
    except (Unreadable, OSError):
        return {}


def check_room(wanted: Iterable[tuple[Path, int]]) -> None:
    """Raise `UnlearnError` when a disk has less room than is wanted of it. wanted: (folder, bytes)."""
    sums: dict[int, tuple[Path, int]] = {}
    for folder, size in wanted:
        near = existing(folder)
        try:
            disk = near.stat().st_dev
        except OSError:
            continue
        sums[disk] = (near, sums.get(disk, (near, 0))[1] + size)
    for folder, size in sums.values():
        try:
            free = shutil.disk_usage(folder).free
        except OSError:
            continue  # some network disks do not say
        if free < size + MARGIN:
            raise UnlearnError(
                f"The disk of {folder} has {free / 2**20:.0f} MB free, but {(size + MARGIN) / 2**20:.0f} MB are "
                "needed: make room, or choose another folder."
            )


def check_writable(file: Path | None) -> None:
    """Fail before the work and not after it: make the folder, try a file in it, and the name's length."""
    if file is None:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        sweep(file.parent)
        with new_name(file.parent) as probe:
            probe.touch(exist_ok=False)
            probe.unlink()
    except OSError as e:
        if e.errno == errno.ENOSPC:
            raise UnlearnError(why_not_written(file, e)) from None
        raise UnlearnError(
            f"Cannot write into {file.parent} ({e.strerror or e}): allow it, or choose another folder."
        ) from None


def existing(folder: Path) -> Path:
    """The folder itself or the nearest one above it that is there."""
    whole = Path(os.path.abspath(folder))
    return next((p for p in (whole, *whole.parents) if p.is_dir()), whole)


def delta_size(checkpoint: str | Path, rank: int) -> int:
    """About the most that a delta of this rank for a checkpoint, file or folder, takes in bytes."""
    return TEXT_SIZE + int(DELTA_SHARE * rank * size_of(Path(checkpoint)))


def size_of(path: Path) -> int:
    """Bytes of a file, or of the tensors in a folder; 0 where there is nothing."""
    try:
        files = path.glob("*/*" + SUFFIX) if path.is_dir() else [path]
        return sum(f.stat().st_size for f in files if f.is_file())
    except OSError:
        return 0
