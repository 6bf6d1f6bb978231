"""What is asked before any work: names side by side, words that a prompt replaces, lists in quotes."""

from dataclasses import replace

import pytest

from tests.tiny import WORDS
from unlearn_core import BadSetting
from unlearn_core.words.vocabulary import Term, Vocabulary, bundled
from unlearn_core.words.wish import read_wish
from unlearn_core.words.word_list import WordList

LISTS = [WordList.load(WORDS), WordList.load(None)]
GENERAL = [LISTS[1], LISTS[1]]
"""Of a checkpoint without a list of its own."""


@pytest.mark.parametrize(
    "typed",
    ["hot dog", "teddy bear", "fire engine", "apple tree", "pear tree", "toy car", "red car", "orange car", "dog house"]
    + ["cat fish", "cat shark", "table lamp", "dress shirt", "Lion King", "king penguin", "cat cats", "ink cat"],
)
def test_names_of_several_words_are_not_questioned(typed):
    """Though the general list has a word for each part of some."""
    assert len(read_wish(typed, GENERAL, vocabulary=bundled()).concepts) == 1


def test_two_things_of_a_group_are_questioned_where_a_vocabulary_counts():
    with pytest.raises(BadSetting, match="'wolf fox' may be one name or two: write 'wolf, fox' for two concepts"):
        read_wish("wolf fox", GENERAL, vocabulary=bundled())
    ours = Vocabulary((Term("wolf fox", "animal", "canine"),))
    assert read_wish("wolf fox", GENERAL, vocabulary=ours).concepts == ("wolf fox",)


@pytest.mark.parametrize(
    ("typed", "regardless"),
    [
        *(("[cat:dog:0.5]", 2), ("[wombat|dog]", 2), ("[(cat:1.2):wombat:10]", 2), ('["cat":"dog":0.5]', 2)),
        *(("**cat**, __dog__", 2), ("__animals__", 1), ("a __big/color__ cat", 1), ("[[cat|dog]|frog]", 3)),
    ],
)
def test_what_a_prompt_replaces_is_questioned_and_regardless_nothing_of_it_is_left_out(typed, regardless):
    with pytest.raises(BadSetting, match="stands for several words in a prompt: write the names that are meant"):
        read_wish(typed, LISTS)
    assert len(read_wish(typed, LISTS, force=True).concepts) == regardless


@pytest.mark.parametrize("typed", ['"cat, dog"', '"a cat; wombats"', '"<lora:x:1> cat"'])
def test_a_list_in_quotes_is_questioned_and_regardless_one_name(typed):
    lists = [replace(LISTS[0], objects={"": ("cat", "dog", "wombat")})]
    with pytest.raises(BadSetting, match="in quotes is one name: leave the quotes out"):
        read_wish(typed, lists)
    assert read_wish(typed, lists, force=True).concepts == (typed.strip('"'),)
