"""Names and places of files: safe names, files that stay inside their folder, what a checkpoint is read with."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path, PureWindowsPath

from ..errors import BadCheckpoint, BadDelta, BadSetting


def safe_file_name(text: str) -> str:
    """A readable file stem for any text, at most 80 characters and 200 bytes, good on every system.

    Letters of all scripts and digits stay, everything else becomes an underscore, device names are avoided.
    """
    text = unicodedata.normalize("NFC", text)
    kept = (c if c.isalnum() or c == "-" or unicodedata.category(c)[0] == "M" else "_" for c in text)
    stem = re.sub("_+", "_", "".join(kept)).strip("_-")[:80]
    stem = stem.encode()[:200].decode(errors="ignore").rstrip("_-")
    if re.fullmatch("con|prn|aux|nul|(com|lpt)[0-9¹²³]", stem, re.IGNORECASE):
        stem += "_"
    return stem or "delta"


def from_home(text: str) -> Path:
    """A place as it was typed; "~" is the home folder also where quotes have kept the shell from reading it."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)  # there is no such user


OUTSIDE = "A delta's name must be a plain file name inside its folder."


def contained(folder: str | Path, name: str) -> Path:
    """The absolute path of file `name` inside `folder`, links followed; `BadDelta` when it would lie outside.

    Also for what is no text, and for a name that no file can have.
    """
    if isinstance(name, str) and is_plain(name):
        root = Path(folder).resolve()
        try:
            path = (root / name).resolve()
            usable = not why_no_file(path)
        except (RuntimeError, OSError, ValueError):
            usable = False  # a link that leads to itself
        if usable and path != root and path.is_relative_to(root):
            return path
    raise BadDelta(OUTSIDE)


def linked(folder: str | Path, name: str) -> Path:
    """The absolute path of file `name` inside `folder` as programs find it: a link that lies there may lead elsewhere.

    `BadDelta` for a name that leads outside by itself, for what is no text, and for a name that no file can have.
    """
    if isinstance(name, str) and is_plain(name):
        root = Path(folder).resolve()
        path = root / name
        try:
            usable = path != root and not why_no_file(path, follow=False)
        except ValueError:
            usable = False  # letters that no name has
        if usable:
            return path
    raise BadDelta(OUTSIDE)


def is_plain(name: str) -> bool:
    """Whether a name leads nowhere else on any system."""
    foreign = PureWindowsPath(name)
    return not ("\0" in name or ":" in name or foreign.root or ".." in foreign.parts)


def why_no_file(file: Path, follow: bool = True) -> str:
    """Why the system lets no file have this name, as it says it; "" where one is there or can be made.

    follow: whether of a link it is asked what the link leads to.
    """
    try:
        os.stat(file, follow_symlinks=follow)
    except (FileNotFoundError, NotADirectoryError):
        return ""  # the name is free
    except OSError as e:
        return e.strerror or str(e)
    return ""


BESIDE = (".yaml", ".words.json")
"""What belongs to a checkpoint, lies beside it and has to lie beside the copy too."""
MAX_YAML = 256 * 1024
"""Bytes of a checkpoint's yaml that are looked at; larger ones are refused when they are read."""
Place = tuple[str, Path]
"""What a file is called in a sentence, and where it is."""


def check_folder(option: str, folder: Path) -> None:
    """Raise `BadSetting` when a folder is asked for and a file is there."""
    if folder.exists() and not folder.is_dir():
        raise BadSetting(f"{option} has to be a folder, but '{folder}' is a file: choose another name.")


def read_with(checkpoint: str | Path) -> Iterator[Place]:
    """A checkpoint, file or folder, and all that is read with it, there or not."""
    path = Path(checkpoint)
    yield "the checkpoint", path
    for suffix in BESIDE:
        yield "the checkpoint's", beside(path, suffix)
    if (folder := tokenizer_folder(path)) is not None:
        yield "the checkpoint's folder", folder


def beside(checkpoint: Path, suffix: str) -> Path:
    """The file of the checkpoint's name with another suffix; a folder has none, and may be named by dots alone."""
    whole = checkpoint if checkpoint.name not in ("", "..") else checkpoint.resolve()
    name = whole.name if os.path.isdir(whole) else whole.stem
    return whole.parent / (name + suffix)


def tokenizer_folder(checkpoint: Path) -> Path | None:
    """The folder beside a checkpoint that its yaml names."""
    config = beside(checkpoint, ".yaml")
    if not config.is_file():
        return None
    try:
        with open(config, "rb") as file:
            text = file.read(MAX_YAML)
    except OSError as e:
        why = e.strerror or type(e).__name__
        raise BadCheckpoint(f"'{config.name}' cannot be read ({why}): ask for the right to read it.") from e
    found = tokenizer_named(text, checkpoint)
    return found[0] if found else None


VERSION = re.compile(rb"""(?<![\w-])version['"]?\s*:\s*('(?:[^'\n]|'')*'|"[^"\n]*"|[^\s'"][^\r\n]*)""")
"""Where a yaml may name the tokenizer's folder; behind what is not quoted there may be a bracket or a comment."""


def tokenizer_named(yaml: bytes, checkpoint: Path) -> tuple[Path, slice] | None:
    """(the folder beside a checkpoint that its yaml names, the bytes that name it); None where there is none."""
    for match in VERSION.finditer(yaml):
        for end in (rb"$", rb"\s#|$", rb"[,}]|\s#|$"):
            written = re.split(end, match[1])[0].rstrip()
            folder = folder_beside(checkpoint.parent, unquoted(written.decode("utf-8", "replace")))
            if folder is not None and folder.is_dir():
                return folder, slice(match.start(1), match.start(1) + len(written))
    return None


def unquoted(written: str) -> str:
    """What a yaml says in one word or between quotes, as far as names of folders go."""
    quote, inside = written[:1], written[1:-1]
    if quote not in ("'", '"') or written[-1:] != quote:
        return written
    return inside.replace("''", "'") if quote == "'" else inside.replace("\\\\", "\\")


def folder_beside(parent: Path, version: str) -> Path | None:
    """The folder in `parent` that a yaml there names, whether it is there or not; None for what lies elsewhere.

    By its plain name, or by its full path: web UIs take a plain name from the folder that they run in.
    """
    if Path(version).parent in (parent.absolute(), parent.resolve()):
        version = Path(version).name
    # a plain name: nothing outside the checkpoint's own folder is read
    return parent / version if re.fullmatch(r"[\w-]{1,100}", version) else None


def same_file(one: Path, other: Path) -> bool:
    """Whether both are one file, also by links; for what is not there yet, whether both name one place."""
    try:
        return one.samefile(other)
    except OSError:
        a, b = (os.path.normcase(os.path.realpath(p)) for p in (one, other))
        return a == b
    except ValueError:
        return False  # a name that no file can have


def same_place(one: Path, other: Path) -> bool:
    """Whether two new files could be one on some disk: by capitals, composed letters, and dots or spaces at the end."""
    return same_file(one, other) or spelled(one) == spelled(other)


def spelled(file: Path) -> list[str]:
    """The parts of a path, links followed, as the least particular disk tells them apart."""
    parts = Path(os.path.realpath(file.parent), file.name).parts
    return [unicodedata.normalize("NFC", p.rstrip(". ") or p).casefold() for p in parts]


def is_inside(folder: Path, file: Path) -> bool:
    """Whether an existing file belongs to a folder, also where a download has put links in it."""
    if not folder.is_dir() or not file.is_file():
        return False
    if Path(os.path.realpath(file)).is_relative_to(os.path.realpath(folder)):
        return True
    # a model's folder is two deep: its index, and the parts of each network
    return any(same_file(file, part) for depth in ("*", "*/*") for part in folder.glob(depth))


def each_its_own(names: Iterable[str]) -> list[str]:
    """The names, with a number behind those that are there already; capitals do not tell files apart everywhere."""
    found: list[str] = []
    used: set[str] = set()
    for name in names:
        number, made = 1, name
        while made.casefold() in used:
            number += 1
            made = f"{name}_{number}"
        used.add(made.casefold())
        found.append(made)
    return found


def missing(checkpoint: Path) -> str:
    """The sentence for a checkpoint's place at which no file is."""
    if checkpoint.exists():
        return f"'{checkpoint}' is no file of a model: name the .safetensors file itself."
    return f"There is no checkpoint at {checkpoint}: check the name and the folder."
