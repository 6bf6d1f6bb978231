"""The vocabulary's file, made of its sources: always the same bytes from the same packages."""

from __future__ import annotations

import gzip
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unlearn_core.delta.atomic import write_whole
from unlearn_core.words.compare import is_function_word
from unlearn_core.words.plurals import readings

from .categories import Categories
from .choose import Chooser
from .wordnet import Sense, WordNet

HERE = Path(__file__).resolve().parent
DATA = HERE.parents[1] / "unlearn_core"
TARGET = DATA / "words" / "data" / "vocabulary.txt.gz"
MERGES = DATA / "standalone" / "data" / "clip_merges.txt.gz"
TOTAL = 20_000
"""Terms in the file."""
SHORTEST = 3
"""Letters of a noun: what is shorter is rather a sign."""
LONGEST = 3
"""Words of a phrase whose occurrences are counted."""
FILLERS = {"animal", "artifact", "food", "plant", "location", "object"}
"""Files of WordNet from which phrases are taken that no list of prompts has, up to `TOTAL`."""
NAMES = {
    *("napoleon", "cleopatra", "jesus", "buddha", "tom and jerry", "superman", "wonder woman", "iron man", "hulk"),
    *("daredevil", "black panther", "magneto", "terminator", "pinhead", "davy jones", "tarzan", "peter pan"),
    *("cinderella", "sleeping beauty", "goldilocks", "romeo", "lilo", "minion", "hanuman", "doge"),
}
"""Names that are nouns as well, and seldom meant so."""
PLURALS = {"alps", "grapes", "highlands", "stairs", "sunglasses"}
"""Things that are called by their plural, though there is a word for one."""
HAND_LISTS = {"characters": "character", "people": "person", "artists": "artist", "styles": "style"}
"""Files of terms that were written for this repository, one a line, by the kind of their terms."""


@dataclass(frozen=True)
class Row:
    """One line of the file; sense: a number that words of one meaning share, 0 where there is none."""

    term: str
    kind: str
    category: str
    sense: int = 0


class Sources:
    """Everything that is read.

    wordnet: the folder with data.noun. clip_interrogator: the folder with artists.txt and flavors.txt.
    """

    def __init__(self, wordnet: Path, clip_interrogator: Path):
        self.wordnet = WordNet(wordnet)
        self.chooser = Chooser(self.wordnet)
        self.artists, self.mediums, self.movements = (
            lines(clip_interrogator / f"{name}.txt") for name in ("artists", "mediums", "movements")
        )
        self.counts = counted(lines(clip_interrogator / "flavors.txt"))
        self.entries = entries_of(MERGES)
        self.hand = {kind: lines(HERE / f"{name}.txt") for name, kind in HAND_LISTS.items()}
        self.left_out = {line.casefold() for line in lines(HERE / "left_out.txt")}
        self.corrections = dict(correction(line) for line in lines(HERE / "corrections.txt"))

    def common(self, term: str) -> tuple[int, int]:
        """Smaller is more common: by how many prompts' phrases have it, then by its place in CLIP's vocabulary."""
        words = term.casefold().split()
        return -self.counts[" ".join(words)], max(self.entries.get(word, len(self.entries) * 4) for word in words)

    def nouns(self) -> Iterator[tuple[str, Sense]]:
        """(term, meaning) of everything in WordNet that can be seen and that prompts or CLIP have."""
        for word in sorted(self.wordnet.words):
            term = word.replace("_", " ")
            if self.is_left_out(term) or not re.fullmatch(r"[a-z][a-z' -]+", term):
                continue
            if not self.counts[term] and (" " in term or term not in self.entries):
                continue
            sense = self.chooser.meaning(word)
            if sense is None or len(term) < SHORTEST or is_function_word(term):
                continue
            # animals are nouns whatever one may bear or duck
            if is_inflected(term, sense, self.wordnet) or not (sense.file == "animal" or self.wordnet.is_noun(word)):
                continue
            if " " not in term and sense.file in ("food", "plant") and spelled(term, sense) != term:
                continue  # an apple that is called Jonathan
            if " " in term or not sense.instance or self.chooser.kind(sense) != "person":
                # of people a surname alone may be anybody's
                yield term, sense

    def fillers(self, known: Iterable[str]) -> list[tuple[str, Sense]]:
        """Phrases of words that CLIP has, as far as they are things, those of the most common words first."""
        have, found = set(known), []
        for word in sorted(self.wordnet.words):
            term = word.replace("_", " ")
            parts = term.split()
            if len(parts) != 2 or term in have or self.is_left_out(term) or any(p not in self.entries for p in parts):
                continue
            sense = self.wordnet.of(word)[0]
            if sense.file in FILLERS and (not sense.instance or sense.file == "location"):
                meant = self.chooser.meaning(word)
                if meant is not None and meant.words[0].casefold() == word:
                    found.append((term, meant))
        return sorted(found, key=lambda pair: (self.common(pair[0]), pair[0]))

    def is_left_out(self, term: str) -> bool:
        """Whether a term, or a word of it, is on the list of what is not to be in the file."""
        return term.casefold() in self.left_out or any(
            reading in self.left_out for word in term.casefold().split() for reading in readings(word)
        )


def make(sources: Sources) -> list[Row]:
    """All rows, the most common first."""
    found: dict[str, Row] = {}
    meant: dict[str, Sense] = dict(sources.nouns())
    fixed = [Row(t, kind, kind) for kind, terms in sources.hand.items() for t in terms if not is_noun(t, kind, meant)]
    fixed += [Row(term, "style", "medium") for term in map(without_article, sources.mediums)]
    fixed += [Row(term, "style", "movement") for term in sources.movements]
    fixed += [Row(term, "artist", "artist") for term in sources.artists if is_name(term, meant)]
    fixed += [Row(term, *row) for term, row in sources.corrections.items()]
    for row in fixed:
        key = plain(row.term)
        if not sources.is_left_out(row.term) and (key not in found or row.term in sources.corrections):
            found[key] = row
    rest = {t: s for t, s in meant.items() if plain(t) not in found}
    rest = {t: s for t, s in rest.items() if t in PLURALS or not is_plural_of({*rest, *found}, t)}
    rest |= dict(sources.fillers({*rest, *found})[: max(0, TOTAL - len(rest) - len(found))])
    categories = Categories(sources.wordnet, [s.number for s in rest.values()])
    for term, sense in rest.items():
        shown = spelled(term, sense)
        found[plain(term)] = Row(shown, sources.chooser.kind(sense), categories.of(sense.number), sense.number)
    for term, row in list(found.items()):
        if not row.sense and term in meant and sources.chooser.kind(meant[term]) == row.kind:
            # what was given by hand still has its synonyms, unless another thing is meant
            found[term] = Row(row.term, row.kind, row.category, meant[term].number)
    return sorted(found.values(), key=lambda row: (sources.common(row.term), row.term))


def is_plural_of(terms: Collection[str], term: str) -> bool:
    """Whether a word is the plural of another term, whatever else it may mean: trumpets are no flower."""
    return " " not in term and term.endswith("s") and not (readings(term) - {term}).isdisjoint(terms)


def is_noun(term: str, kind: str, meant: Mapping[str, Sense]) -> bool:
    """Whether somebody's name is a common noun, which then counts: Storm, Raven."""
    sense = meant.get(plain(term))
    return kind not in ("style", "artist") and sense is not None and not sense.instance and plain(term) not in NAMES


def is_name(term: str, meant: Mapping[str, Sense]) -> bool:
    """Whether an artist's name cannot be taken for a noun."""
    return " " in term or plain(term) not in meant


def write(rows: Sequence[Row], file: Path = TARGET) -> None:
    """The rows, compressed: term, kind, category and, where two share one, a number of their sense between tabs."""
    shared = Counter(row.sense for row in rows)
    numbers: dict[int, int] = {0: 0}
    out = []
    for row in rows:
        sense = row.sense if shared[row.sense] > 1 else 0
        out.append(f"{row.term}\t{row.kind}\t{row.category}\t{numbers.setdefault(sense, len(numbers)) or ''}\n")
    write_whole(file, gzip.compress("".join(out).encode(), 9, mtime=0))


def lines(file: Path) -> list[str]:
    """The lines of a text that are not empty and no comment."""
    return [s for line in file.read_text(encoding="utf-8").splitlines() if (s := line.strip()) and s[0] != "#"]


def counted(phrases: Sequence[str]) -> Counter[str]:
    """How many phrases hold each run of up to `LONGEST` words."""
    found: Counter[str] = Counter()
    for phrase in phrases:
        words = phrase.casefold().split()
        runs = {" ".join(words[i : i + n]) for n in range(1, LONGEST + 1) for i in range(len(words) - n + 1)}
        found.update(runs)
    return found


def entries_of(merges: Path) -> dict[str, int]:
    """{whole word: its place} of CLIP's vocabulary, frequent words first."""
    found: dict[str, int] = {}
    for place, line in enumerate(gzip.decompress(merges.read_bytes()).decode().splitlines()):
        word = line.replace(" ", "")
        if word.endswith("</w>"):
            found.setdefault(word[: -len("</w>")], place)
    return found


def correction(line: str) -> tuple[str, tuple[str, str]]:
    """(term, (kind, category)) of a line `term = kind, category`."""
    term, _, rest = line.partition("=")
    kind, _, category = rest.partition(",")
    return term.strip(), (kind.strip(), category.strip())


def is_inflected(term: str, sense: Sense, wordnet: WordNet) -> bool:
    """Whether a word is the plural of another one that means the same."""
    others = readings(term) - {term}
    return any(sense.number in (s.number for s in wordnet.of(other)) for other in others)


def spelled(term: str, sense: Sense) -> str:
    """The term with the capitals that its meaning has."""
    return next((w.replace("_", " ") for w in sense.words if w.casefold().replace("_", " ") == term), term)


def without_article(term: str) -> str:
    """ "a 3D render" -> "3D render"."""
    return re.sub(r"^(?:an?|the) (.*?)(?: of)?$", r"\1", term)


def plain(term: str) -> str:
    """What two spellings of one term share."""
    return unicodedata.normalize("NFKC", term).casefold()
