"""What an artist typed, read as one or several clean concepts before anything runs; the same in every door."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ..errors import BadSetting
from .compare import content_words, folded, same_thing
from .word_list import WordList

MOST = 20
"""Concepts in one wish."""
ARTICLES = {"a", "an", "the", "some", "any", "this", "that", "these", "those", "my", "your", "all", "every"}
NUMBERS = {"one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "many", "several"}
"""Words before a concept that say nothing of it: numbers only where a known word follows."""
DEPICTIONS = {
    *("photo", "photograph", "picture", "image", "painting", "drawing", "sketch", "illustration", "render", "portrait"),
    *("closeup", "close-up", "shot", "view", "scene", "artwork", "art"),
}
"""Words of prompts that speak of the picture and not of what is in it: "a photo of a cat"."""
JOINTS = {"and", "or", "&", "+", "/"}
"""Between two known concepts they make a list."""
TAG = re.compile(r"<[^<>]*>")
"""<lora:name:1>, <embedding>, <b>."""
EMBEDDING = re.compile(r"\bembedding:\s*\S+", re.IGNORECASE)
WILDCARD = re.compile(r"__[\w/*-]+__")
WEIGHT = re.compile(r":\s*[-+]?\d*\.?\d+(?=\s*(?:[)\]}]|$|[,;|\n]))|(?<=[)\]}])\s*[-+]?\d*\.\d+")
"""The number in (banana:1.2), [banana:0.5], banana:1.2 and (banana)1.3."""
HARD = re.compile(r"[,;|\n、，；]|\bAND\b|\bBREAK\b")
"""What always separates two concepts."""
QUOTES = {"“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "‘": "'", "’": "'"}
EDGE = " \t.!?:;,*_~`'\"“”„«»-–—/\\#"
"""What is cut off both ends."""
QUOTED, ESCAPED = "\ue000{}\ue001", {r"\(": "\ue002", r"\)": "\ue003", r"\[": "\ue004", r"\]": "\ue005"}
"""Private characters that stand for phrases in quotes and for escaped brackets while the rest is read."""


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
            concept = known_form(item, lists)
            if not quoted:
                ask_about_a_sentence(concept, lists)
            if not any(same_thing(concept, other) for other in found):
                found.append(concept)
    if not found:
        raise BadSetting(f"'{text.strip()}' names no concept: write the word for what the model is to forget.")
    if len(found) > MOST:
        raise BadSetting(f"At most {MOST} concepts at once, not {len(found)}.")
    return Wish(text, tuple(found))


def clean(text: str) -> str:
    """One concept without article, weight, brackets and punctuation, as `ForgetConfig` takes it.

    Raises `BadSetting` for nothing, and for several concepts.
    """
    found = [part for part, _ in parts(text)]
    if not found:
        raise BadSetting(f"'{text.strip()}' names no concept: write the word for what the model is to forget.")
    if len(found) > 1:
        names = ", ".join(f"'{f}'" for f in found)
        raise BadSetting(f"'{text.strip()}' names {len(found)} concepts ({names}): make one request for each.")
    return found[0]


def parts(text: str) -> list[tuple[str, bool]]:
    """(concept, whether it stood in quotes), cut at everything that always separates, and cleaned.

    Raises `BadSetting` for characters that nobody sees: private ones stand for parts of the text in here.
    """
    if any(not (c.isprintable() or c.isspace()) for c in text):
        raise BadSetting("Forget: the text contains invisible control characters; type it again by hand.")
    text = unicodedata.normalize("NFC", text)
    for mark, plain in (QUOTES | ESCAPED).items():
        text = text.replace(mark, plain)
    phrases: list[str] = []

    def put_by(found: re.Match[str]) -> str:
        phrases.append(found[1])
        return "," + QUOTED.format(len(phrases) - 1) + ","

    text = re.sub(r'"([^"]*)"', put_by, text)
    for syntax in (TAG, EMBEDDING, WILDCARD):
        text = syntax.sub(" , ", text)
    text = WEIGHT.sub(" ", text)
    rows = []
    for piece in HARD.split(text):
        number = re.fullmatch(r"\s*\ue000(\d+)\ue001\s*", piece)
        words = bare(phrases[int(number[1])]) if number else without_article(bare(piece))
        if words and words.casefold() not in ARTICLES:
            rows.append((words, number is not None))
    return rows


def bare(text: str) -> str:
    """Words without brackets and without punctuation at their ends; escaped brackets are part of a name."""
    text = re.sub(r"[()\[\]{}<>]", " ", text)
    for escape, stand_in in ESCAPED.items():
        text = text.replace(stand_in, escape[1])
    return " ".join(text.split()).strip(EDGE)


def without_article(text: str) -> str:
    """Without an article and the like in front; a text that is nothing else stays."""
    words = text.split()
    while len(words) > 1 and words[0].casefold() in ARTICLES:
        words = words[1:]
    return " ".join(words)


def joined_by_and(text: str, lists: Sequence[WordList]) -> list[str]:
    """The concepts in "cat and dog", where both are known; else the text as it is: "salt and pepper"."""
    words = re.split(r"\s+|(?<=\w)(?=[&+/]\w)|(?<=\w[&+/])(?=\w)", text)
    for i, word in enumerate(words):
        if word.casefold() not in JOINTS or not 0 < i < len(words) - 1:
            continue
        left, right = (without_article(" ".join(w)) for w in (words[:i], words[i + 1 :]))
        rest = joined_by_and(right, lists)
        if all(listed(c, lists) for c in (left, *rest)):
            return [left, *rest]
    return [text]


def listed(concept: str, lists: Iterable[WordList]) -> str:
    """The word of the lists that a concept is a form of, as the list spells it, or ""."""
    for words in lists:
        for known in (*words.all_objects, *words.styles, *filter(None, words.objects)):
            if same_thing(known, concept):
                return known
    return ""


def known_form(concept: str, lists: Sequence[WordList]) -> str:
    """A known word as its list spells it ("Bananas" -> "banana"), anything else as it is.

    A style that is named with the word "style" keeps it.
    """
    if re.search(r"(?i)\bstyles?\b", concept):
        return concept
    first, *rest = concept.split()
    if rest and (first.casefold() in NUMBERS or first.isdecimal()):
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
    found = {}
    for words in lists:
        for known in (*words.all_objects, *words.styles):
            needed = content_words(known)
            if needed and all(any(not folded({w}).isdisjoint(folded({s})) for s in said) for w in needed):
                found.setdefault(known, position(known.casefold()))
    longest = [k for k in found if not any(k != o and content_words(k) < content_words(o) for o in found)]
    return sorted(longest, key=lambda k: (found[k] < 0, found[k]))
