"""What an artist says around the names of concepts: no part of them, and never the wrong half of a sentence."""

import contextlib
import time

import pytest

from tests.tiny import WORDS
from unlearn_core import BadSetting
from unlearn_core.words.wish import read_wish
from unlearn_core.words.word_list import WordList

LISTS = [WordList.load(WORDS), WordList.load(None)]


@pytest.mark.parametrize(
    "typed, goes, comes",
    [("cat -> dog", "cat", "dog"), ("cat→wombat", "cat", "wombat"), ("cat => a dog", "cat", "dog")]
    + [("replace cat with dog", "cat", "dog"), ("please swap the cat for a dog", "cat", "dog")]
    + [("Turn cats into dogs", "cats", "dogs"), ("cat becomes dog", "cat", "dog"), ("dog instead of cat", "cat", "dog")]
    + [("frog, cat -> dog", "cat", "dog")],
)
def test_what_is_to_be_drawn_instead_is_told_where_it_belongs(typed, goes, comes):
    with pytest.raises(BadSetting, match=f"write '{goes}' here and '{comes}' under 'Draw instead'"):
        read_wish(typed, LISTS)


@pytest.mark.parametrize(
    "typed, concepts",
    [
        ("cats etc.", ["cat"]),
        ("cat, dog, and so on", ["cat", "dog"]),
        ("only cats", ["cat"]),
        ("lots of cats", ["cat"]),
        ("all kinds of cats", ["cat"]),
        ("forget everything about cats", ["cat"]),
        ("forget all about the cat", ["cat"]),
        ("first cat, then dog, also a frog", ["cat", "dog", "frog"]),
        ("a) cat\nb) dog", ["cat", "dog"]),
        ("[x] cat\n[ ] dog", ["cat", "dog"]),
        ("- cat\n- dog", ["cat", "dog"]),
        ("All About Eve", ["All About Eve"]),
        ("Just Dance", ["Just Dance"]),
        ("No Face, cat", ["No Face", "cat"]),
        ("turn signal by hand", ["turn signal by hand"]),
        ("change purse for coins", ["change purse for coins"]),
    ],
)
def test_words_around_a_name_are_no_part_of_it(typed, concepts):
    assert list(read_wish(typed, LISTS).concepts) == concepts


@pytest.mark.parametrize("typed", ["forget " * 570, ":1." * 400, "the " * 900 + "cat"])
def test_nonsense_is_read_at_once(typed):
    begin = time.monotonic()
    with contextlib.suppress(BadSetting):
        read_wish(typed[:4000], LISTS)
    assert time.monotonic() - begin < 5
