"""Lists of terms that artists have: tags installed for autocompletion, and a list of their own. Read as hostile files.

What is read of a tag list are its names of characters, artists and species: other tags say how a picture is to be.
"""

from __future__ import annotations

import codecs
import csv
import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from ..untrusted import stamp
from .vocabulary import KINDS, Term, Vocabulary

OWN_NAME = "vocabulary.txt"
"""The artist's own list, one term a line."""
MOST_BYTES, MOST_ROWS, MOST_TERMS, MOST_FILES = 32 * 2**20, 400_000, 5000, 8
"""Bytes of a file that are looked at, its rows, terms that are taken from it, and files."""
LONGEST = 80
"""Characters of a term."""
TAG_KINDS = {"1": "artist", "4": "character", "5": "animal"}
"""What the second column of a tag list says: of danbooru's and e621's kinds those that are things by themselves."""
LISTED_TAGS = {"danbooru": {"1", "4"}, "e621": {"1", "4", "5"}}
"""Kinds that are taken, by the beginning of a file's name; in others only artists and characters."""


BULLET = re.compile(r"^\s*[-*•]\s+")
REMARK = re.compile(r"(?:^|\s)#.*$")
"""Before a line, and behind it; C# is a word."""
CELLS = re.compile(r"\s*[\t;]\s*")
"""Between a term and its kind as well as a comma."""


def with_lists(vocabulary: Vocabulary, files: Sequence[Path]) -> Vocabulary:
    """The vocabulary with what can be read of some files; what cannot be read is passed over."""
    stamped = tuple((Path(f), stamp(Path(f))) for f in files[:MOST_FILES])
    return joined(vocabulary.digest, stamped, vocabulary) if stamped else vocabulary


_JOINED: dict[tuple, Vocabulary] = {}


def joined(name: str, stamped: tuple[tuple[Path, tuple[int, int]], ...], vocabulary: Vocabulary) -> Vocabulary:
    """`with_lists`, read once for each state of the files."""
    if (name, stamped) not in _JOINED:
        _JOINED.clear()
        _JOINED[name, stamped] = vocabulary.plus(t for file, _ in stamped for t in read_terms(file))
    return _JOINED[name, stamped]


def read_terms(file: Path) -> tuple[Term, ...]:
    """The terms of one list, the most used ones first; () where it cannot be read, is too large, or is no text."""
    lines = lines_of(file)
    table = file.suffix.casefold() == ".csv" or any(re.match(r"[^,]*,\d+,\d+(,|$)", line) for line in lines[:20])
    found = tag_rows(lines, file.stem.casefold()) if table else filter(None, map(own_row, lines))
    counted: dict[str, tuple[int, Term]] = {}
    for count, term in found:
        counted.setdefault(term.text, (count, term))
    order = sorted(counted.values(), key=lambda row: -row[0])
    return tuple(term for _, term in order[:MOST_TERMS])


def lines_of(file: Path) -> list[str]:
    """The lines of a list; [] where it cannot be read, is too large, or is no text."""
    try:
        if not file.is_file():
            return []  # a pipe would be waited for
        with open(file, "rb") as opened:
            data = opened.read(MOST_BYTES + 1)
    except (OSError, ValueError):
        return []
    text = text_of(data) if len(data) <= MOST_BYTES else None
    return [] if text is None else text.splitlines()[:MOST_ROWS]


def text_of(data: bytes) -> str | None:
    """A file's text, in UTF-8 or in the UTF-16 that Windows' editor may write; None where it is none."""
    if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return data.decode("utf-16", "replace")
    return None if b"\0" in data[:4096] else data.decode("utf-8-sig", "replace")


def unread(files: Sequence[Path]) -> list[str]:
    """A sentence for each list of the artist's own that is there and gives no term, or not one for each line."""
    found = []
    for file in files:
        if file.name != OWN_NAME or not stamp(file)[1]:
            continue
        lines = lines_of(file)
        odd = [number for number, line in enumerate(lines, 1) if bare(line) and own_row(line) is None]
        if not read_terms(file):
            found.append(f"No term could be read from {file}: save it as plain text (UTF-8), one term a line.")
        elif odd:
            found.append(
                f"{len(odd)} of {len(lines)} lines of {file} could not be read, the first is line {odd[0]}: write one "
                "term a line, with a comma and a kind behind it where you like, as in 'Ada Byron, character'."
            )
    return found


def tag_rows(lines: Sequence[str], name: str) -> Iterator[tuple[int, Term]]:
    """(how often it is used, term) of a tag list: name, kind, count, and more names between quotes."""
    taken = next((kinds for start, kinds in LISTED_TAGS.items() if name.startswith(start)), {"1", "4"})
    for line in lines:
        try:
            row = next(csv.reader([line]), [])
        except csv.Error:
            continue
        if len(row) >= 3 and row[1].strip() in taken and row[2].strip().isdecimal() and len(row[2]) < 12:
            text = readable(row[0])
            if text:
                kind = TAG_KINDS[row[1].strip()]
                yield int(row[2]), Term(text, kind, kind)


def own_row(line: str) -> tuple[int, Term] | None:
    """(0, term) of a line "term" or "term, kind"; a number behind the comma is how often it is used. None: neither."""
    line = bare(line)
    head, _, tail = CELLS.sub(",", line).rpartition(",")
    last = tail.strip().casefold()
    kind = next((k for k in (last, last.removesuffix("s")) if head and k in KINDS), "")
    text = readable(head if kind or (head and last.isdecimal()) else line)
    if not text or "," in text:
        return None
    kind = kind or "thing"
    return (int(last) if last.isdecimal() and len(last) < 12 else 0), Term(text, kind, kind)


def bare(line: str) -> str:
    """A line without the sign of a list before it and a remark behind it."""
    return REMARK.sub("", BULLET.sub("", line)).strip()


def readable(text: str) -> str:
    """A term as a prompt has it, "" for what is none: without underscores, escapes, and signs that nobody sees."""
    plain = re.sub(r"\\([()\[\]])", r"\1", text).replace("_", " ")
    plain = " ".join(plain.split())
    # a Chinese word may have one sign
    long_enough = len(plain) > 1 or (plain and unicodedata.category(plain) == "Lo")
    fits = long_enough and len(plain) <= LONGEST and plain.isprintable() and any(map(str.isalpha, plain))
    return plain if fits and "\ufffd" not in plain and not set(plain) & set('<>{}"|') else ""


@lru_cache(8)
def installed(extensions: Path) -> tuple[Path, ...]:
    """Tag lists in a folder of extensions: tagcomplete's tables, and Custom-Scripts' list of words."""
    try:
        folders = sorted(p for p in extensions.iterdir() if p.is_dir())
    except OSError:
        return ()
    found: list[Path] = []
    for folder in folders:
        name = folder.name.casefold()
        if "tagcomplete" in name:
            found += [f for f in (folder / "tags" / f"{name}.csv" for name in LISTED_TAGS) if f.is_file()]
        elif "custom-scripts" in name:
            found += [f for f in (folder / "user" / "autocomplete.txt", folder / "autocomplete.txt") if f.is_file()]
    return tuple(found)


def lists_in(extensions: Path, own: Path) -> tuple[Path, ...]:
    """The artist's own list, where there is one, and the installed ones."""
    return (*((own,) if own.is_file() else ()), *installed(extensions))
