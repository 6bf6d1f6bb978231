"""The words of a wish: whether two texts name the same thing, whatever article or prompt syntax is around it."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from .plurals import readings

FUNCTION_WORDS = {
    *("a", "an", "the", "of", "in", "on", "at", "by", "to", "for", "from", "with", "without", "and", "or", "but", "as"),
    *("is", "are", "be", "it", "its", "this", "that", "these", "those", "some", "any", "no", "not", "style", "styles"),
}
"""They say nothing of what is meant. A single Latin letter is one too, as the t of t-shirt."""
WEIGHT = re.compile(r":\s*[-+]?\d*\.?\d+(?=\s*(?:[)\]>}]|$))|(?<![\w.])\d*\.\d+(?![\w.])")
"""How much of something a prompt asks for: (banana:1.3), (banana)1.3."""
COUNTED = re.compile(r"^\d+(?=[^\W\d_]{3})")
"""A number before its word, as in 1girl."""
OPTIONAL = re.compile(
    "[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u064b-\u065f\u0670"
    "\u20d0-\u20f0\ufe00-\ufe0f\U000e0100-\U000e01ef]"
)
"""Accents that have no letter of their own, vowel points of Hebrew and Arabic, and what makes a sign an emoji."""


@lru_cache(4096)
def content_words(text: str) -> frozenset[str]:
    """What a text names, word by word and case-folded: without brackets, weights and function words.

    All of its words where it has no other, as in "The The".
    """
    plain = re.sub(r"['’]s\b", "", WEIGHT.sub(" ", unpointed(text)))
    parts = "".join(c if is_spelled(c) else " " for c in plain).split()
    words = {COUNTED.sub("", part) for part in parts}
    return frozenset(w for w in words if not is_function_word(w)) or frozenset(words)


def unpointed(text: str) -> str:
    """A text in small letters, each accent in one sign with its letter, without marks that may as well be left out."""
    return american(OPTIONAL.sub("", unicodedata.normalize("NFKC", text).casefold()))


def american(text: str) -> str:
    """British spellings in small letters as the lists have them."""
    return text.replace("colour", "color").replace("grey", "gray")


def is_spelled(sign: str) -> bool:
    """Whether a sign tells one word from another: a letter, a number, a mark of those that are vowels in Hindi."""
    return sign.isalnum() or unicodedata.category(sign)[0] == "M"


def is_function_word(word: str) -> bool:
    """Whether a word says nothing of what is meant."""
    return word in FUNCTION_WORDS or (len(word) == 1 and word.isascii() and word.isalpha())


def folded(words: frozenset[str]) -> frozenset[str]:
    """All readings of all words."""
    return frozenset().union(*map(readings, words))


def share_a_word(a: str, b: str) -> bool:
    """Whether both texts have a word in common, singular or plural."""
    return not folded(content_words(a)).isdisjoint(folded(content_words(b)))


def same_thing(a: str, b: str) -> bool:
    """Whether both texts have the same words, singular or plural: "a banana" and "Bananas"; not "hot dog" and "dog"."""
    if a.casefold() == b.casefold():
        return True
    if letters(a) != letters(b):
        return False
    one, other = content_words(a), content_words(b)

    def covered(words: frozenset[str], by: frozenset[str]) -> bool:
        return not any(readings(w).isdisjoint(folded(by)) for w in words)

    return bool(one and other) and covered(one, other) and covered(other, one)


def letters(text: str) -> set[str]:
    """Single letters that tell one thing from another, as in T-shirt and e-book; not the article and the genitive."""
    return set(re.findall(r"(?<!\w)[b-rt-z](?!\w)", text.casefold()))
