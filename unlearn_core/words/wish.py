"""What an artist typed, read as one or several clean concepts before anything runs, the same everywhere."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..errors import BadSetting
from .compare import same_thing
from .plurals import singular
from .prompt_syntax import (
    DETERMINERS,
    MARKS,
    TAG_BRACKETS,
    as_it_looks,
    as_style,
    joined_by_and,
    names_nothing,
    parts,
)
from .prompt_words import without_command
from .prompts import style_words
from .questions import (
    ask_about_a_sentence,
    ask_about_another_in_its_place,
    ask_about_quotes,
    ask_about_replaced,
    ask_about_tags,
    ask_about_things_in_a_row,
    ask_about_two_readings,
    ask_about_what_stays,
    listed,
    mentioned,
)
from .vocabulary import Vocabulary
from .word_list import WordList

MOST = 20
"""Concepts in one wish."""
MOST_READINGS = 12
"""After so many times what comes off is nonsense, as "forget forget forget"."""
STYLE = re.compile(r"(?i)\bstyles?\b")
NUMBERS = {"one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "many", "several"}
"""Before a known word they say nothing of it."""


@dataclass(frozen=True)
class Wish:
    """One or several concepts, in the order given; one delta each.

    typed: what the artist wrote. about: what each concept was taken for, in sentences.
    """

    typed: str
    concepts: tuple[str, ...]
    about: tuple[str, ...] = ()

    @property
    def note(self) -> str:
        """How it was understood, in sentences; "" where it is just what was typed and nothing is known of it."""
        return " ".join(self.notes)

    @property
    def notes(self) -> tuple[str, ...]:
        """The same, sentence by sentence."""
        return tuple(filter(None, [self._reading, *self.about]))

    @property
    def _reading(self) -> str:
        typed = " ".join(self.typed.split())
        if len(self.concepts) == 1:
            one = self.concepts[0]
            return "" if one == typed else f"'{typed}' was understood as '{one}'."
        names = ", ".join(f"'{c}'" for c in self.concepts)
        return f"'{typed}' was understood as {len(self.concepts)} concepts, one delta each: {names}."


def read_wish(text: str, lists: Sequence[WordList], force: bool = False, vocabulary: Vocabulary | None = None) -> Wish:
    """Read what was typed with the help of word lists and, of a checkpoint without one, of a vocabulary.

    Articles, case, plural of known words, quotes, weights, brackets, `<lora:...>`, embeddings, punctuation and commands
    ("forget the cat") are taken off. Commas, semicolons, tabs, new lines, AND and BREAK separate concepts; "and" does
    between known ones. A phrase in quotes stays one. Raises `BadSetting` for nothing, and with a question for a
    sentence, for the tags of a prompt, and for what else may be meant in two ways (see `questions`). force: these are
    taken as they stand, and nothing is asked.
    """
    if not isinstance(text, str):
        raise BadSetting("Forget: write the concept as text.")
    text = as_it_looks(text)
    if not text.strip():
        raise BadSetting("Name the concept to forget: it is empty.")
    found: list[str] = []
    for concept in concepts_in(text, lists, force, vocabulary):
        if not any(same_thing(concept, other) for other in found):
            found.append(concept)
    if not found:
        raise BadSetting(f"'{text.strip()}' names no concept: write the word for what the model is to forget.")
    if len(found) > MOST:
        raise BadSetting(f"At most {MOST} concepts at once, not {len(found)}.")
    return Wish(text, tuple(found))


def read_names(
    text: str, lists: Sequence[WordList], force: bool = False, vocabulary: Vocabulary | None = None
) -> list[str]:
    """The concepts of a list that are no wish themselves, read in the same way: what to draw instead, what to keep."""
    return list(concepts_in(text, lists, force, vocabulary))


def concepts_in(
    text: str, lists: Sequence[WordList], force: bool, vocabulary: Vocabulary | None = None, again: int = MOST_READINGS
) -> Iterator[str]:
    """Each concept, as its list spells it. Raises `BadSetting` with a question unless forced.

    again: how often what is left of a part may be read anew.
    """
    rows = parts(text)

    def is_mentioned(rest: str) -> bool:
        return bool(mentioned(rest, lists))

    def is_term(rest: str) -> bool:
        return vocabulary is not None and vocabulary.find(rest) is not None

    if not force:
        ask_about_replaced(text)
        ask_about_another_in_its_place(text)
        ask_about_what_stays(text, rows)
        ask_about_tags(rows, lists, vocabulary)
    for part, quoted in rows:
        if quoted:
            if not force:
                ask_about_quotes(part, lists)
            yield part
            continue
        noun = part if listed(part, lists) else without_command(part, is_mentioned, is_term)
        whole = " " in noun and is_term(noun)
        for item in [noun] if whole else joined_by_and(noun, lambda name: is_known(name, lists)):
            concept = known_form(item, lists)
            if vocabulary and concept == item and not STYLE.search(concept) and not listed(concept, lists):
                term = vocabulary.find(concept)
                concept = term.text if term else concept
            if all(map(names_nothing, concept.casefold().split())):
                continue
            unread = concept != part or parts(concept) != [(concept, False)]
            plain = "\\" not in text and not TAG_BRACKETS.search(text.translate(MARKS))
            if unread and concept != text and plain and again:
                # what has come off may have hidden more of it
                yield from concepts_in(concept, lists, force, vocabulary, again - 1)
                continue
            if not force:
                ask_about_a_sentence(concept, lists)
                ask_about_two_readings(concept, lists, vocabulary)
                ask_about_things_in_a_row(concept, lists, vocabulary)
            yield concept


def is_known(concept: str, lists: Sequence[WordList]) -> bool:
    """Whether the lists name it, and as a style where it says so: "ink style", not "dog style"."""
    if STYLE.search(concept):
        return bool(listed_style(concept, lists))
    return bool(listed(concept, lists))


def listed_style(concept: str, lists: Sequence[WordList]) -> str:
    """The style of the lists that "INK style" and "style of ink" name, as the list spells it, or ""."""
    bare = style_words(concept)
    return next((s for words in lists for s in words.styles if same_thing(s, bare)), "")


def known_form(concept: str, lists: Sequence[WordList], numbers: bool = True) -> str:
    """A known word as its list spells it ("Bananas" -> "banana"), "mice" as "mouse", anything else as it is.

    A style that is named with the word "style" keeps it, also from "in a Ghibli style". numbers: "two cats" is "cat" as
    well.
    """
    if STYLE.search(concept):
        concept = as_style(concept)
        known = listed_style(concept, lists)
        return f"{known} style" if known else concept
    first, *rest = concept.split()
    if numbers and rest and (first.casefold() in DETERMINERS | NUMBERS or first.rstrip(".").isdecimal()):
        return listed(concept, lists) or listed(" ".join(rest), lists) or concept
    return listed(concept, lists) or singular(concept)
