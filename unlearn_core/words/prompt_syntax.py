"""Prompt syntax taken off what an artist typed: weights, brackets, tags, quotes, and what separates two concepts."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import cache

from ..errors import BadSetting
from .compare import is_function_word

LONGEST = 4000
"""Characters that are read at all."""
ARTICLES = {"a", "an", "the"}
"""They are taken off in front of any concept."""
DETERMINERS = {"some", "any", "this", "that", "these", "those", "my", "your", "all", "every"}
"""They are taken off in front of a known word only: All Might and Your Name are names."""
JOINTS = {"and", "or", "&", "+", "/"}
"""Between two known concepts, or beside a phrase in quotes, they make a list."""
NOTHING = {*ARTICLES, *DETERMINERS, *JOINTS, "everything", "anything", "something", "nothing", "whatever"}
"""Words that name nothing by themselves."""
POLITE = {"please", "thanks", "thank you", "etc", "and so on", "and so forth", "and more", "and others", "and the like"}
"""Parts of a list that name nothing either; as words of a longer name they may."""
WORK = (
    "(?:(?:concept|digital|fan|line|comic|matte|oil|acrylic|watercolou?r|ink|pencil) )?"
    "(?:arts?|(?:art)?works?|paintings?|pictures?|images?|illustrations?|drawings?|sketch(?:es)?|prints?|portraits?"
    "|comics?|photo(?:graph)?s?|painted|drawn|made|sketched|illustrated|photographed)"
)
"""What artists make, and how: before "by" and "in the style of" it says nothing of the style."""
IN_THE_STYLE = re.compile(
    rf"(?i)^(?:(?:{WORK} )?in (?:the |a )?styles? of|{WORK} by(?! (?:an?|the) (?-i:[a-z]))|by(?! (?:an?|the) )) "
)
"""The words before an artist's name. Behind "by" an article names a place: By the Sea, a painting by the window."""
HYPHENED = re.compile(r"(?i)(?<=\w)[-‐‑]styles?$")
"""As in "Ghibli-style"."""
IN_SOME_STYLE = re.compile(rf"(?i)^(?:{WORK} )?in (?:(?:an?|the) )?(\S.*?)[ -]styles?$")
"""As in "in a Ghibli style"."""
TAG = re.compile(r"<[^<>]*>")
"""<lora:name:1>, <b>, <cat>."""
MARKUP = re.compile(r"(?i)<(?:[^<>]*[:=]|/?(?:[a-z]|h\d|em|br|li|ul|ol|div|span|code|strong)\s*/?>)")
"""Tags that name nothing of a picture: they are left out."""
EMBEDDING = re.compile(r"\bembedding:\s*\S+", re.IGNORECASE)
WILDCARD = re.compile(r"(?<!\w)__(?!_)([\w/*-]+?)__(?!\w)")
"""__animals__ stands for a word out of a file; in other texts it is printed bold."""
SQUARE = re.compile(r"\[([^\[\]]*)\]")
"""Between them one word takes turns with another, as in [cat|dog] and [cat:dog:0.5]."""
NUMBER = re.compile(r"[\s\d.()+-]*")
BREAKS = r",;|\n\r\t\v\f\x1c-\x1f\x85\u2028\u2029、､，；،؛"
"""Signs, ends of lines and of a table's cells that always separate two concepts."""
WEIGHT = re.compile(
    rf":\s*[-+]?(?:\d{{0,2}}\.\d{{1,4}}|\d)(?=\s*(?:[)\]}}]|$|[{BREAKS}]))|(?<=[)\]}}])\s*[-+]?\d{{0,2}}\.\d{{1,4}}"
)
"""The number in (banana:1.2), [banana:0.5], banana:1.2 and (banana)1.3."""
SEPARATORS = re.compile(rf"[{BREAKS}]|\bBREAK\b")
CAPITAL_AND = re.compile(r"\bAND\b")
"""Separates as well, unless the whole text is in capitals."""
JOINED = re.compile(r"(?i)\s+(?:and|or|[&+/])\s+|(?<=\w)[&+/](?=\w)")
"""A joint between two texts, also without space around a sign."""
MOST_JOINED = 3
"""Parts of one name that has joints itself, as Tom and Jerry has."""
BESIDE_QUOTES = re.compile(
    r"(?i)(?<=\ue001)\s*(?:\b(?:and|or)\b|[&+/])?\s*(?=\ue000)"
    r"|(?<=\ue001)\s*(?:\b(?:and|or)\b|[&+/])\s|\s(?:and|or|[&+/])\s*(?=\ue000)"
)
"""A joint beside a phrase in quotes."""
UNDERSCORE = re.compile(r"(?<=\w)_+(?=\w)")
"""Tags have it between their words: black_cat."""
TAG_BRACKETS = re.compile(r"(?<=\w)_+\(([^()]*)\)")
"""In a tag, as hatsune_miku_(vocaloid), they are part of the name and no weight."""
MARKS = str.maketrans(
    dict.fromkeys("“”„‟«»「」『』｢｣《》〈〉〝〞＂", '"')
    | dict.fromkeys("‘’‚‛‹›＇", "'")
    | dict(zip("（）［］【】〔〕｛｝＜＞：｜／＆＋．", "()[][][]{}<>:|/&+.", strict=True))
)
"""Quotes of all languages, and the signs of prompts as Chinese and Japanese keyboards have them."""
COPIED = dict.fromkeys(map(ord, "\ufeff\u200b\u200c\u200d\u2060\u00ad\u200e\u200f\u061c"))
"""Marks that nobody sees and that come along when a text is copied: they are left out."""
ITEM = re.compile(r"(?m)^\s*(?:[-*•]\s*)?(?:[A-Za-z]\)|\[[ xX✓]\])\s+")
"""What a list has before its lines: "a) cat", "[x] dog"."""
EDGE = " \t.!?:;,*_~`'\"“”„«»-–—/\\#…。｡！？・〜～।॥۔؟¿¡"
"""What is cut off both ends."""
ESCAPED = {r"\(": "\ue002", r"\)": "\ue003", r"\[": "\ue004", r"\]": "\ue005"}
"""Private characters that stand for escaped brackets, as \ue000NUMBER\ue001 do for phrases in quotes."""


def parts(text: str) -> list[tuple[str, bool]]:
    """(concept, whether it stood in quotes), cut at everything that always separates, and cleaned.

    Raises `BadSetting` for a text that is too long, and for characters that nobody sees.
    """
    text, phrases = without_quotes(ITEM.sub("", text))
    text = EMBEDDING.sub(" , ", TAG.sub(lambda tag: " , " if MARKUP.match(tag[0]) else f" {tag[0][1:-1]} ", text))
    text = SQUARE.sub(lambda found: " , ".join(turns(found)) or found[0], WILDCARD.sub(r" \1 ", text))
    text = WEIGHT.sub(" ", text)
    if text != text.upper():
        text = CAPITAL_AND.sub(",", text)
    pieces = [piece for part in SEPARATORS.split(text) for piece in BESIDE_QUOTES.split(part)]
    return [row for row in (read_piece(piece, phrases) for piece in pieces) if row[0]]


def without_quotes(text: str) -> tuple[str, list[str]]:
    """(a text with a stand-in for each phrase in quotes and each escaped bracket, the phrases). Raises as `parts`."""
    if len(text) > LONGEST:
        raise BadSetting(f"Forget: at most {LONGEST} characters at once, not {len(text)}.")
    text = as_it_looks(text)
    if any(not (c.isprintable() or c.isspace()) for c in text):
        raise BadSetting("Forget: the text contains invisible control characters; type it again by hand.")
    text = text.translate(MARKS)
    for escape, stand_in in ESCAPED.items():
        text = text.replace(escape, stand_in)
    text = TAG_BRACKETS.sub(" \ue002\\1\ue003", text)
    phrases: list[str] = []

    def put_by(found: re.Match[str]) -> str:
        phrases.append(found[1])
        return f"\ue000{len(phrases) - 1}\ue001"

    return re.sub(r'"([^"]*)"', put_by, text), phrases


def turns(found: re.Match[str]) -> list[str]:
    """The words that take turns in what `SQUARE` has found; [] where it holds one alone, with or without a weight."""
    words = [piece for piece in re.split(r"[:|]", found[1]) if not NUMBER.fullmatch(piece)]
    return words if len(words) > 1 else []


def replaced_in_a_prompt(text: str) -> str:
    """The first part of a text that stands for several words in a prompt, or ""; what is in quotes never does."""
    plain, phrases = without_quotes(text)
    found = WILDCARD.search(plain) or next(filter(turns, SQUARE.finditer(plain)), None)
    return "" if found is None else re.sub("\ue000(\\d+)\ue001", lambda m: phrases[int(m[1])], found[0])


def as_it_looks(text: str) -> str:
    """A text as it looks: without marks that were copied along, and with each accent in one character with its letter.

    What changes the direction of writing stays, to be refused: a name would not be what it looks like.
    """
    return unicodedata.normalize("NFC", text.translate(COPIED))


def read_piece(piece: str, phrases: list[str]) -> tuple[str, bool]:
    """(one concept or "", whether it is a phrase in quotes). Quotes inside of a longer piece just vanish."""
    quoted = re.fullmatch(r"(?i)\s*(?:an?\s|the\s)?\s*\ue000(\d+)\ue001\s*", piece)
    if quoted:
        return bare(phrases[int(quoted[1])], brackets=True), True
    words = bare(re.sub("\ue000(\\d+)\ue001", lambda m: phrases[int(m[1])], piece))
    words = tidy(UNDERSCORE.sub(" ", IN_THE_STYLE.sub("style of ", tidy(words))))
    plain = words.casefold()
    return ("" if plain in POLITE or all(map(names_nothing, plain.split())) else words), False


def as_style(text: str) -> str:
    """ "Ghibli style" for "in a Ghibli style", "style of Monet" for "paintings by Monet"; anything else as it is."""
    return IN_SOME_STYLE.sub(r"\1 style", IN_THE_STYLE.sub("style of ", HYPHENED.sub(" style", text)))


def joined_by_and(text: str, is_known: Callable[[str], bool]) -> list[str]:
    """The concepts in "cat and dog", where all are known; else the text as it is: "salt and pepper".

    What is known as a whole stays one, also within a longer text: "bow and arrow and sword".
    """
    joints = [found.span() for found in JOINED.finditer(text)]
    begins, ends = [0, *(end for _, end in joints)], [*(begin for begin, _ in joints), len(text)]
    is_known = cache(is_known)
    # from each part on, the last one first: the names that all of the rest is made of
    rest: list[list[str] | None] = [*[None for _ in begins], []]
    for i in reversed(range(len(begins))):
        for j in reversed(range(i, min(i + MOST_JOINED, len(begins)))):
            name, more = without_article(text[begins[i] : ends[j]]), rest[j + 1]
            if more is not None and is_known(name):
                rest[i] = [name, *more]
                break
    return rest[0] if rest[0] and len(rest[0]) > 1 else [text]


def names_nothing(word: str) -> bool:
    """Whether a word names no concept by itself, as a letter does not."""
    return word in NOTHING or is_function_word(word)


def bare(text: str, brackets: bool = False) -> str:
    """Words without punctuation at their ends, and without brackets unless these are escaped or to be left."""
    if not brackets:
        text = re.sub(r"[()\[\]{}<>]", " ", text)
    for escape, stand_in in ESCAPED.items():
        text = text.replace(stand_in, escape[1])
    return " ".join(text.split()).strip(EDGE)


def tidy(text: str) -> str:
    """Without articles in front and punctuation at both ends, however they alternate."""
    while (shorter := without_article(" ".join(text.split()).strip(EDGE))) != text:
        text = shorter
    return text


def without_article(text: str) -> str:
    """Without an article in front; a text that is nothing else stays."""
    words = text.split()
    while len(words) > 1 and words[0].casefold() in ARTICLES:
        words = words[1:]
    return " ".join(words)
