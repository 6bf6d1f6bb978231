"""What an artist types becomes clean concepts before anything runs."""

import time

import pytest

from tests.tiny import WORDS
from unlearn_core import BadSetting
from unlearn_core.words.wish import mentioned, read_wish
from unlearn_core.words.word_list import WordList

LISTS = [WordList.load(WORDS), WordList.load(None)]


@pytest.mark.parametrize(
    "typed",
    [
        *("banana", "Banana", "BANANAS", "bananas", "a banana", "the banana", "some bananas", "banana.", "bananas!"),
        *(
            "(banana:1.2)",
            "((banana))",
            "[banana:0.5]",
            "banana:1.3",
            "(banana)1.1",
            "'banana'",
            "“banana”",
            "\tbanana ",
        ),
        *(
            "<lora:x:1> banana",
            "<b>banana</b>",
            "banana, ",
            "embedding:foo banana",
            "two bananas",
            "3 bananas",
            "banana, Bananas",
        ),
        "banana BREAK",
    ],
)
def test_one_concept_however_it_is_dressed(typed):
    assert read_wish(typed, LISTS).concepts == ("banana",)


@pytest.mark.parametrize(
    ("typed", "concepts"),
    [
        ("cat, dog", ("cat", "dog")),
        ("dog; cat\nfrog", ("dog", "cat", "frog")),
        ("cat AND dog", ("cat", "dog")),
        ("cat and dog", ("cat", "dog")),
        ("the cat and the dogs and a frog", ("cat", "dog", "frog")),
        ("cat & dog", ("cat", "dog")),
        ("cat+dog", ("cat", "dog")),
        ("cat/dog", ("cat", "dog")),
        ("{cat|dog}", ("cat", "dog")),
        ("ice cream and cake", ("ice cream", "cake")),
        ("1girl, solo, banana", ("1girl", "solo", "banana")),
        ("cat，dog、frog", ("cat", "dog", "frog")),
        ('"salt and pepper shaker", cat', ("salt and pepper shaker", "cat")),
        ("salt and pepper shaker", ("salt and pepper shaker",)),
        ("black and white", ("black and white",)),
        ("hot dog", ("hot dog",)),
        ("lord of the rings", ("lord of the rings",)),
        ('"girl with a pearl earring"', ("girl with a pearl earring",)),
        ("ink style", ("ink style",)),
        ("style of van gogh", ("style of van gogh",)),
        (r"link \(zelda\)", ("link (zelda)",)),
        ("香蕉", ("香蕉",)),
        ("Beauty and the Beast", ("Beauty and the Beast",)),
        ("in the style of Van Gogh", ("style of Van Gogh",)),
        ("by Greg Rutkowski", ("style of Greg Rutkowski",)),
        ("T-shirt", ("T-shirt",)),
        ("e-book", ("e-book",)),
        ("glass", ("glass",)),
        ("Your Name", ("Your Name",)),
        ("my cat", ("cat",)),
        ('"cat" and "dog"', ("cat", "dog")),
        ('"mona lisa" style', ("mona lisa style",)),
        ('Nat "King" Cole', ("Nat King Cole",)),
        ('"The Lion, the Witch and the Wardrobe"', ("The Lion, the Witch and the Wardrobe",)),
        ("Blade Runner: 2049", ("Blade Runner: 2049",)),
        ("PEACE AND LOVE", ("PEACE AND LOVE",)),
        (r"saber \(fate\)", ("saber (fate)",)),
        ("Mickey Mouse", ("Mickey Mouse",)),
    ],
)
def test_lists_names_and_phrases(typed, concepts):
    assert read_wish(typed, LISTS).concepts == concepts


@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        ("a photo of a cat sitting on a red sofa", "'cat' or 'sofa'? It would take 'cat'"),
        ("a sofa with a cat", "'sofa' or 'cat'? It would take 'sofa'"),
        ("photo of a cat", "'cat'? It would take 'cat'"),
        ("a wombat on a bench", "which word is meant? Write that word alone"),
    ],
)
def test_a_sentence_is_questioned(typed, asked):
    with pytest.raises(BadSetting) as e:
        read_wish(typed, LISTS)
    assert "reads as a sentence" in str(e.value) and asked in str(e.value)


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "  ",
        "the",
        "a",
        "BREAK",
        "<lora:x:1>",
        "<img onerror=x>",
        ",;,",
        "embedding:foo",
        "()",
        '""',
        "...",
        "and",
        "of",
    ],
)
def test_what_names_nothing_is_refused(typed):
    with pytest.raises(BadSetting, match="names no concept|it is empty"):
        read_wish(typed, LISTS)


def test_no_more_concepts_than_anyone_means():
    assert len(read_wish(", ".join(f"thing{i}" for i in range(20)), LISTS).concepts) == 20
    with pytest.raises(BadSetting, match="At most 20 concepts at once, not 21"):
        read_wish(", ".join(f"thing{i}" for i in range(21)), LISTS)


def test_the_note_says_how_it_was_understood():
    assert read_wish("banana", LISTS).note == ""
    assert read_wish("a banana", LISTS).note == "'a banana' was understood as 'banana'."
    assert "2 concepts, one delta each: 'cat', 'dog'" in read_wish("cat, dog", LISTS).note


@pytest.mark.parametrize("typed", ["\ue0000\ue001", "cat\u202e", "ca\x00t", "x" * 5000])
def test_what_nobody_means_is_refused(typed):
    with pytest.raises(BadSetting, match="invisible control characters|at most 4000 characters"):
        read_wish(typed, LISTS)


@pytest.mark.parametrize("typed", [" and ".join(["xx"] * 500), "/".join("abcdefgh" * 100), ":" + "1" * 3900 + "x"])
def test_long_texts_are_read_in_no_time(typed):
    begun = time.process_time()
    read_wish(typed, LISTS)
    assert time.process_time() - begun < 2


def test_mentioned_prefers_the_longer_name():
    assert mentioned("a comic book on a table", LISTS) == ["comic book", "table"]
