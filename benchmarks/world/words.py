"""The word lists of the world: none of them names what is unlisted."""

from __future__ import annotations

import json
from pathlib import Path

from unlearn_core.words.vocabulary import Vocabulary, bundled
from unlearn_core.words.word_list import WordList

from .captions import OBJECT_TEMPLATES, STYLE_TEMPLATES, SUFFIXES, TEMPLATES, fill
from .things import BACKGROUNDS, STYLES, forms, kinds, unlisted

FILE = Path(__file__).with_name("world.words.json")


def listed() -> dict[str, tuple[str, ...]]:
    """{kind: names} of the things that the checkpoint's list names."""
    return {kind: tuple(n for n in names if n not in unlisted()) for kind, names in kinds().items()}


def checkpoint_list() -> dict:
    """What lies beside the checkpoint; it does not name all that it draws, and says so."""
    return {
        "complete": False,
        "objects": {kind: list(names) for kind, names in listed().items()},
        "styles": list(STYLES),
        "templates": list(TEMPLATES),
        "object_templates": list(OBJECT_TEMPLATES),
        "style_templates": list(STYLE_TEMPLATES),
        "suffixes": ["", "", *(fill(SUFFIXES[0], b=b) for b in BACKGROUNDS)],
    }


def write() -> None:
    """The file anew: `python -m benchmarks.world.words`."""
    FILE.write_text(json.dumps(checkpoint_list(), indent=1) + "\n", encoding="utf-8")


def read_file() -> dict:
    """The file as it lies there."""
    return json.loads(FILE.read_text(encoding="utf-8"))


def unlisted_words() -> tuple[str, ...]:
    """Names and synonyms that no list may hold."""
    return tuple(word for name in sorted(unlisted()) for word in forms(name))


def general_list() -> WordList:
    """The bundled list of general words without what is unlisted in the world."""
    return WordList.load(None).without(unlisted_words())


def open_vocabulary() -> Vocabulary:
    """The bundled vocabulary without them, their synonyms and whatever shares a word with them."""
    return bundled().without(unlisted_words())


if __name__ == "__main__":
    write()
