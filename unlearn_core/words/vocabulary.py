"""Some 20,000 words that image models know, with what each of them is: for checkpoints without a list of their own.

The bundled file is made by `python -m benchmarks vocabulary`; its sources and licences are in the text beside it.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from os.path import commonprefix
from pathlib import Path
from typing import NamedTuple

from .compare import american, content_words, folded, is_spelled, same_thing, share_a_word, unpointed
from .plurals import readings

FILE = Path(__file__).with_name("data") / "vocabulary.txt.gz"
STYLES = {"style", "artist"}
"""Kinds that the tool forgets as styles; all others are objects to it."""
KINDS = {"thing", "animal", "plant", "food", "place", "profession", "person", "character", *STYLES}
"""What a term may be."""
ALIKE = 0.6
"""Part of a word's letters with which a form of it begins, as banana and bananas do."""
SHORTEST_STEM = 4
"""Letters that two forms of a word share at least: cars and card share three."""


class Term(NamedTuple):
    """One word or short phrase.

    kind: one of `KINDS`. category: a word for what it is a kind of, as "edible fruit". sense: a number that it shares
    with its synonyms; 0 where it has none.
    """

    text: str
    kind: str
    category: str
    sense: int = 0

    @property
    def is_name(self) -> bool:
        """Whether it is written as a name."""
        return not self.text[0].islower()

    @property
    def is_style(self) -> bool:
        """Whether the tool forgets it as a style."""
        return self.kind in STYLES


@dataclass(frozen=True)
class Vocabulary:
    """Terms, the most common ones first."""

    terms: tuple[Term, ...]

    @cached_property
    def _places(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for place, term in enumerate(self.terms):
            found.setdefault(key(term.text), place)
        return found

    @cached_property
    def _categories(self) -> dict[tuple[bool, str], list[Term]]:
        found: dict[tuple[bool, str], list[Term]] = {}
        for term in self.terms:
            found.setdefault((term.is_style, term.category), []).append(term)
        return found

    @cached_property
    def digest(self) -> str:
        """A name for exactly these terms."""
        return hashlib.blake2b(repr(self.terms).encode("utf-8", "replace"), digest_size=16).hexdigest()

    def find(self, text: str) -> Term | None:
        """The term that a text is a form of: whatever its case, its hyphens and, of its last word, its number.

        Where that may be the plural of several terms the most common one: caves of cave.
        """
        *before, last = text.casefold().split() or [""]
        spelled = {reading: key(" ".join([*before, reading])) for reading in readings(last)}
        found = [(reading != last, self._places[name]) for reading, name in spelled.items() if name in self._places]
        return self.terms[min(found)[1]] if found else None

    def artist_called(self, surname: str) -> str:
        """The most common artist or style whose last word this is, or ""."""
        return self._surnames.get(key(surname), "")

    @cached_property
    def _surnames(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for term in self.terms:
            if term.is_style and term.is_name and " " in term.text:
                found.setdefault(key(term.text.split()[-1]), term.text)
        return found

    def category(self, text: str) -> tuple[Term, ...]:
        """The other terms of the category that a text belongs to; () for an unknown one.

        First those of its kind that are names as it is one, or nouns as it is one; of these the most common ones.
        """
        own = self.find(text)
        if own is None:
            return ()
        others = (t for t in self.members(own) if not is_form(t.text, text))
        return tuple(sorted(others, key=lambda t: t.kind != own.kind or t.is_name != own.is_name))

    def members(self, term: Term) -> Sequence[Term]:
        """All terms of a term's category, itself among them."""
        return self._categories.get((term.is_style, term.category), ())

    def kinds_of(self, concepts: Collection[str]) -> frozenset[str]:
        """The categories whose members are kinds of the concepts: bird, and bird of prey, for "bird"."""
        return frozenset(name for _, name in self._categories if any(is_part_of(name, c) for c in concepts))

    def same_again(self, texts: Sequence[str], concepts: Collection[str]) -> frozenset[str]:
        """Those of some texts that draw one of the concepts by another word.

        Its kinds, as a sparrow and an owl are of bird, and the category that it belongs to, as insect is for an ant.
        """
        kinds = self.kinds_of(concepts)
        more = {own.category for c in concepts if (own := self.find(c))}

        def again(text: str) -> bool:
            own = self.find(text)
            return (own is not None and own.category in kinds) or any(is_form(text, category) for category in more)

        return frozenset(t for t in texts if again(t) and not any(is_form(t, c) for c in concepts))

    def synonyms(self, text: str) -> tuple[str, ...]:
        """Other words for the same thing: told, never forgotten by themselves, and never held against it."""
        own = self.find(text)
        if own is None or not own.sense:
            return ()
        found = (t.text for t in self._by_sense.get(own.sense, ()))
        return tuple(t for t in found if not is_form(t, text))

    @cached_property
    def _by_sense(self) -> dict[int, list[Term]]:
        found: dict[int, list[Term]] = {}
        for term in self.terms:
            found.setdefault(term.sense, []).append(term)
        return found

    def without(self, concepts: Collection[str]) -> Vocabulary:
        """The same terms without some concepts, their forms, their synonyms and whatever shares a word with them.

        Nor with what is a kind of them: whoever forgets birds does not hold sparrows.
        """
        gone = {key(s) for c in concepts for s in (c, *self.synonyms(c))}
        kinds = self.kinds_of(concepts)
        words = folded(frozenset().union(*map(content_words, concepts)))
        # most terms have no word that begins as one of the concepts' does, singular or plural
        first = {word[0] for word in words}

        def stays(term: Term) -> bool:
            if term.category in kinds or (gone and key(term.text) in gone):
                return False
            if first.isdisjoint(part[0] for part in re.findall(r"\w+", term.text.casefold())):
                return True
            return folded(content_words(term.text)).isdisjoint(words)

        return Vocabulary(tuple(filter(stays, self.terms)))

    def plus(self, more: Iterable[Term]) -> Vocabulary:
        """With other terms behind these; one that is here already stays what it is."""
        new: dict[str, Term] = {}
        for term in more:
            if key(term.text) not in self._places:
                new.setdefault(key(term.text), term)
        return Vocabulary((*self.terms, *new.values())) if new else self


@lru_cache(1)
def bundled() -> Vocabulary:
    """The vocabulary that the tool brings along, read when it is first asked for."""
    rows = (line.split("\t") for line in gzip.decompress(FILE.read_bytes()).decode().splitlines())
    return Vocabulary(tuple(Term(text, kind, category, int(sense or 0)) for text, kind, category, sense in rows))


def key(text: str) -> str:
    """What the spellings of one term share: "ice-cream", "Ice Cream", "Tom & Jerry" with "and"; not vowel signs."""
    plain = (american(text.casefold()) if text.isascii() else unpointed(text)).replace("&", "and")
    return plain if plain.isalnum() else "".join(filter(is_spelled, plain)) or plain or text


def belongs_to(text: str, concept: str) -> bool:
    """Whether a term is the concept, a form of it, or has a word of it: nothing of that can be held against it."""
    return is_form(text, concept) or share_a_word(text, concept)


def is_form(text: str, concept: str) -> bool:
    """Whether two texts are spellings or numbers of one word: bananas, Ice-cream and ice cream."""
    return key(text) == key(concept) or same_thing(text, concept)


def is_part_of(category: str, concept: str) -> bool:
    """Whether a category is a concept or a narrower one, by its words: "bird" and "bird of prey" of bird."""
    head = category.partition(" of ")[0]
    return is_form(category, concept) or is_form(head, concept) or is_form(head.rpartition(" ")[2], concept)


def may_be_form(text: str, concept: str) -> bool:
    """Whether a text is spelled as a form or a derivative of the concept is: wolf and wolfish, not cat and cattle.

    The spelling rule alone; whoever uses it asks the text encoder as well.
    """
    one, other = sorted((key(text), key(concept)), key=len)
    shared = len(commonprefix([one, other]))
    return shared >= max(SHORTEST_STEM, ALIKE * len(other))
