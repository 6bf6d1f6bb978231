"""The vocabulary of a host's checkpoint: the bundled one, and the lists that its artist has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..host import HostModel
from ..words.term_lists import with_lists
from ..words.vocabulary import Vocabulary, bundled
from ..words.word_list import WordList


def vocabulary_of(host: HostModel) -> Vocabulary | None:
    """None where the checkpoint brings a word list that names all that it draws: more would only take room.

    Measured on the demo model: with its own list everything near is preserved, and words that mean nothing to its text
    encoder hold back what has to go. A host may bring a vocabulary of its own, as a benchmark's that hides some words.
    """
    if (own := getattr(host, "vocabulary", None)) is not None:
        return own
    return vocabulary(host.words_file, getattr(host, "term_lists", ()))


def vocabulary(words_file: str | None, term_lists: Sequence[Path] = ()) -> Vocabulary | None:
    """The same of a checkpoint that is not loaded. term_lists: files of the artist's, see `words.term_lists`.

    Raises `BadSetting` for a word list that cannot be read.
    """
    if words_file and WordList.load(words_file).complete:
        return None
    return with_lists(bundled(), tuple(term_lists))
