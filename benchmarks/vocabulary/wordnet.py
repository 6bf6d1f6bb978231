"""WordNet's nouns, read from its own database files: senses, the files they stand in, and what each is a kind of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

LEXICOGRAPHER_FILES = {
    **{3: "tops", 4: "act", 5: "animal", 6: "artifact", 7: "attribute", 8: "body", 9: "cognition"},
    **{10: "communication", 11: "event", 12: "feeling", 13: "food", 14: "group", 15: "location", 16: "motive"},
    **{17: "object", 18: "person", 19: "phenomenon", 20: "plant", 21: "possession", 22: "process", 23: "quantity"},
    **{24: "relation", 25: "shape", 26: "state", 27: "substance", 28: "time"},
}
"""By their numbers, as lexnames(5WN) has them."""

NOUN = 1
"""How sense keys say it."""
MOSTLY = 0.3
"""How often a word has to be a noun, as a part of how often it is something else."""


@dataclass(frozen=True)
class Sense:
    """One meaning: its file, the words that have it, what it is a kind of, and whether it is one of a kind."""

    number: int
    file: str
    words: tuple[str, ...]
    above: tuple[int, ...]
    instance: bool
    gloss: str


class WordNet:
    """All nouns of a folder with `data.noun` and `index.noun`."""

    def __init__(self, folder: Path):
        self.senses = {s.number: s for s in map(read_sense, rows(folder / "data.noun"))}
        self.words = dict(map(read_word, rows(folder / "index.noun")))
        self._seen = tagged(folder / "cntlist.rev")
        self.chain = cache(self._chain)

    def of(self, word: str) -> tuple[Sense, ...]:
        """The meanings of a word, the most common one first; () where it is no noun."""
        return tuple(self.senses[n] for n in self.words.get(word.casefold().replace(" ", "_"), ()))

    def is_noun(self, word: str) -> bool:
        """Whether a word is used as a noun, by how often WordNet's tagged texts have it as what."""
        seen = self._seen.get(word.casefold().replace(" ", "_"), {})
        return seen.get(NOUN, 0) >= MOSTLY * max([0, *(n for kind, n in seen.items() if kind != NOUN)])

    def _chain(self, number: int) -> tuple[int, ...]:
        """A sense's number and those of all that it is a kind of, by the first way up."""
        above = self.senses[number].above
        return (number, *(self.chain(above[0]) if above else ()))

    def named(self, name: str, file: str) -> int:
        """The number of the first meaning of a word in a file. Raises `LookupError` where there is none."""
        found = next((s.number for s in self.of(name) if s.file == file), 0)
        if not found:
            raise LookupError(f"WordNet has no {name} in noun.{file}")
        return found


def tagged(file: Path) -> dict[str, dict[int, int]]:
    """{word: {part of speech: how often tagged texts have it so}} of cntlist.rev, see cntlist(5WN)."""
    found: dict[str, dict[int, int]] = {}
    for line in file.read_text(encoding="latin-1").splitlines():
        key, _, count = line.split()
        word, _, rest = key.partition("%")
        kinds = found.setdefault(word, {})
        kind = 3 if rest[0] == "5" else int(rest[0])
        kinds[kind] = kinds.get(kind, 0) + int(count)
    return found


def rows(file: Path) -> Iterator[str]:
    """The lines of a database file without the licence that it begins with."""
    for line in file.read_text(encoding="latin-1").splitlines():
        if not line.startswith("  "):
            yield line


def read_sense(line: str) -> Sense:
    """A line of data.noun; see wndb(5WN)."""
    facts, _, gloss = line.partition("|")
    parts = facts.split()
    count = int(parts[3], 16)
    words = tuple(parts[4 + 2 * i] for i in range(count))
    at = 4 + 2 * count
    pointers = [parts[at + 1 + 4 * i : at + 5 + 4 * i] for i in range(int(parts[at]))]
    above = [(sign, int(number)) for sign, number, part, _ in pointers if sign in ("@", "@i") and part == "n"]
    instance = any(sign == "@i" for sign, _ in above)
    file = LEXICOGRAPHER_FILES[int(parts[1])]
    return Sense(int(parts[0]), file, words, tuple(n for _, n in above), instance, gloss.strip())


def read_word(line: str) -> tuple[str, tuple[int, ...]]:
    """A line of index.noun: (word, the numbers of its meanings)."""
    parts = line.split()
    return parts[0], tuple(map(int, parts[6 + int(parts[3]) :]))
