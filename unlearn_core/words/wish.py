"""What an artist typed, read as one or several clean concepts before anything runs, the same everywhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ..errors import BadSetting
from .compare import content_words, readings, same_thing
from .prompt_syntax import DETERMINERS, EDGE, JOINTS, parts, without_article
from .word_list import WordList

MOST = 20
"""Concepts in one wish."""
LONGEST_NAME = 60
"""Characters of any name in a word list, and more."""
NUMBERS = {"one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "many", "several"}
"""Before a known word they say nothing of it."""
DEPICTIONS = {
    *("photo", "photograph", "picture", "image", "painting", "drawing", "sketch", "illustration", "render", "portrait"),
    *("closeup", "close-up", "shot", "view", "scene", "artwork", "art"),
}
"""Words of prompts that speak of the picture and not of what is in it: "a photo of a cat"."""


@dataclass(frozen=True)
class Wish:
    """One or several concepts, in the order given; one delta each.

    typed: what the artist wrote.
    """

    typed: str
    concepts: tuple[str, ...]

    @property
    def note(self) -> str:
        """How it was understood, in a sentence; "" where it is just what was typed."""
        typed = " ".join(self.typed.split())
        if len(self.concepts) == 1:
            one = self.concepts[0]
            return "" if one == typed else f"'{typed}' was understood as '{one}'."
        names = ", ".join(f"'{c}'" for c in self.concepts)
        return f"'{typed}' was understood as {len(self.concepts)} concepts, one delta each: {names}."


def read_wish(text: str, lists: Sequence[WordList]) -> Wish:
    """Read what was typed with the help of word lists.

    Articles, case, plural of known words, quotes, weights, brackets, `<lora:...>`, embeddings and punctuation are taken
    off. Commas, semicolons, new lines, AND and BREAK separate concepts; "and" does between known ones. A phrase in
    quotes stays one. Raises `BadSetting` for nothing, and with a question for a sentence.
    """
    if not isinstance(text, str):
        raise BadSetting("Forget: write the concept as text.")
    if not text.strip():
        raise BadSetting("Name the concept to forget: it is empty.")
    found: list[str] = []
    for part, quoted in parts(text):
        for item in [part] if quoted else joined_by_and(part, lists):
            concept = item if quoted else known_form(item, lists)
            if not quoted:
                ask_about_a_sentence(concept, lists)
            if not any(same_thing(concept, other) for other in found):
                found.append(concept)
    if not found:
        raise BadSetting(f"'{text.strip()}' names no concept: write the word for what the model is to forget.")
    if len(found) > MOST:
        raise BadSetting(f"At most {MOST} concepts at once, not {len(found)}.")
    return Wish(text, tuple(found))


def read_names(text: str, lists: Sequence[WordList]) -> list[str]:
    """The concepts of a comma-separated list that are no wish themselves: what to draw instead, what to keep."""
    return [part if quoted else known_form(part, lists) for part, quoted in parts(text)]


def joined_by_and(text: str, lists: Sequence[WordList]) -> list[str]:
    """The concepts in "cat and dog", where both are known; else the text as it is: "salt and pepper"."""
    words = re.split(r"\s+|(?<=\w)(?=[&+/]\w)|(?<=\w[&+/])(?=\w)", text)
    for i, word in enumerate(words):
        if word.casefold() not in JOINTS or not 0 < i < len(words) - 1:
            continue
        left, right = (without_article(" ".join(w)) for w in (words[:i], words[i + 1 :]))
        if len(left) > LONGEST_NAME:
            break
        if listed(left, lists):
            rest = joined_by_and(right, lists)
            if all(listed(c, lists) for c in rest):
                return [left, *rest]
    return [text]


def listed(concept: str, lists: Iterable[WordList]) -> str:
    """The word of the lists that a concept is a form of, as the list spells it, or ""."""
    for words in lists:
        for known in (*words.all_objects, *words.styles, *filter(None, words.objects)):
            if same_thing(known, concept):
                return known
    return ""


def known_form(concept: str, lists: Sequence[WordList], numbers: bool = True) -> str:
    """A known word as its list spells it ("Bananas" -> "banana"), anything else as it is.

    A style that is named with the word "style" keeps it. numbers: "two cats" is "cat" as well.
    """
    if re.search(r"(?i)\bstyles?\b", concept):
        return concept
    first, *rest = concept.split()
    if numbers and rest and (first.casefold() in DETERMINERS | NUMBERS or first.isdecimal()):
        return listed(concept, lists) or listed(" ".join(rest), lists) or concept
    return listed(concept, lists) or concept


def ask_about_a_sentence(text: str, lists: Sequence[WordList]) -> None:
    """Raise `BadSetting` with a question for what reads as a sentence or a whole prompt."""
    if listed(text, lists):
        return
    words = [w.strip(EDGE) for w in text.split()]
    speaks_of_a_picture = len(words) > 2 and words[0].casefold() in DEPICTIONS and words[1].casefold() in ("of", "with")
    has_article = any(w.casefold() in ("a", "an") for w in words[1:])
    named = mentioned(text, lists)
    if not (speaks_of_a_picture or has_article or (len(named) > 1 and len(words) > 3)):
        return
    if named:
        names = " or ".join(f"'{n}'" for n in named)
        question = f"which word is meant: {names}? It would take '{named[0]}'; write that word alone"
    else:
        question = "which word is meant? Write that word alone"
    raise BadSetting(f"'{text}' reads as a sentence: {question}, or put a name of several words in quotes.")


def mentioned(text: str, lists: Iterable[WordList]) -> list[str]:
    """Known things and styles that a text mentions, in its order, each once."""
    said = content_words(text)
    position: Callable[[str], int] = text.casefold().find
    found: dict[str, int] = {}
    for words in lists:
        for known in (*words.all_objects, *words.styles):
            needed = content_words(known)
            if needed and all(any(not readings(w).isdisjoint(readings(s)) for s in said) for w in needed):
                found.setdefault(known, position(known.casefold()))
    longest = [k for k in found if not any(k != o and content_words(k) < content_words(o) for o in found)]
    return sorted(longest, key=lambda k: (found[k] < 0, found[k]))
