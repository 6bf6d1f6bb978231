"""What is asked before any work: names side by side, words that a prompt replaces, lists in quotes."""

import contextlib
import time
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


JOINED = {
    "Batman and Superman": "Batman, Superman",
    "BATMAN AND SUPERMAN": "BATMAN, SUPERMAN",
    "unicorns and dragons": "unicorns, dragons",
    "beer and wine": "beer, wine",
    "the octopus and the squid": "octopus, squid",
    "pikachu & mario": "pikachu, mario",
    "pikachu vs mario": "pikachu, mario",
    "wine/beer": "wine, beer",
    "Wine／Beer": "Wine, Beer",
    "beer+wine": "beer, wine",
    "batman or superman": "batman, superman",
    "Claude Monet and Van Gogh": "Claude Monet, Van Gogh",
    "Monet and Van Gogh style": "Monet, Van Gogh style",
    "paintings by Monet and Picasso": "style of Monet, Picasso",
    "Batman and Superman and Pikachu": "Batman, Superman, Pikachu",
    "bow and arrow and sword": "bow and arrow, sword",
    "Cat and Unicorn": "Cat, Unicorn",
    "salt and pepper shaker": "salt, pepper shaker",
}
"""What was typed, and which list the question offers."""


@pytest.mark.parametrize("typed", JOINED)
def test_two_names_that_the_vocabulary_knows_are_questioned(typed):
    offered = JOINED[typed]
    many = "several" if offered.count(",") > 1 else "two"
    with pytest.raises(BadSetting, match=f"may be one name or {many}: write '{offered}' for {many} concepts"):
        read_wish(typed, GENERAL, vocabulary=bundled())
    assert len(read_wish(offered, GENERAL, vocabulary=bundled()).concepts) == offered.count(",") + 1
    assert len(read_wish(f'"{typed}"', GENERAL, vocabulary=bundled()).concepts) == 1
    assert len(read_wish(typed, GENERAL, force=True, vocabulary=bundled()).concepts) == 1


@pytest.mark.parametrize(
    ("typed", "concept"),
    [
        *((name, name) for name in ("bow and arrow", "Tom and Jerry", "black and white", "spaghetti and meatballs")),
        *(
            (name, name)
            for name in ("AC/DC", "ac/dc", "M&M", "Fate/stay night", "Beauty and the Beast", "rock and roll")
        ),
        *(("Bow & Arrow", "bow and arrow"), ("tom & jerry", "Tom and Jerry"), ("Rick and Morty style",) * 2),
        *(("The Lion and the Mouse", "Lion and the Mouse"), ("saber_(fate/stay_night)", "saber (fate/stay night)")),
        *(
            (text, text)
            for text in ("asdfgh and qwertz", "wine and", "and wine", "wine and and beer", "Batman vs Superman")
        ),
    ],
)
def test_one_name_with_a_joint_is_taken(typed, concept):
    assert read_wish(typed, GENERAL, vocabulary=bundled()).concepts == (concept,)


def test_what_the_artists_own_list_has_as_a_whole_stays_one():
    terms = [Term(name, "character", "character") for name in ("Cat and Dog", "AC", "DC", "gizmo", "zog")]
    known = bundled().plus(terms)
    for typed, concepts in {
        "cat & dog": ("Cat and Dog",),
        "cat/dog": ("cat", "dog"),
        "dog and cat": ("dog", "cat"),
        "AC/DC": ("AC/DC",),
    }.items():
        assert read_wish(typed, GENERAL, vocabulary=known).concepts == concepts
    with pytest.raises(BadSetting, match="write 'gizmo, zog'"):
        read_wish("gizmo and zog", GENERAL, vocabulary=known)
    assert read_wish("gizmo and zog", LISTS).concepts == ("gizmo and zog",), "its own list names all that it draws"


@pytest.mark.parametrize(
    "typed", [" and ".join(["beer"] * 440), "beer/" * 800, "ox/" * 1300, " and ".join(["cat"] * 500), "cat&" * 1000]
)
def test_long_lists_of_known_words_are_read_in_no_time(typed):
    begun = time.process_time()
    with contextlib.suppress(BadSetting):
        read_wish(typed, GENERAL, vocabulary=bundled())
    read_wish(typed, GENERAL, force=True, vocabulary=bundled())
    assert time.process_time() - begun < 2


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
