"""What an artist types becomes clean concepts before anything runs."""

import contextlib
import random
import time
from dataclasses import replace

import pytest

from tests.tiny import WORDS
from unlearn_core import BadSetting
from unlearn_core.config import ForgetConfig
from unlearn_core.words.questions import mentioned
from unlearn_core.words.vocabulary import Term, Vocabulary
from unlearn_core.words.wish import read_names, read_wish
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
        *((f"cat{mark}dog", ("cat", "dog")) for mark in "\t\v\f\x1c\x1f\x85\u2028\u2029\r"),
        ("\tcats:1.2\tdog:1.3\v(frog:1.1)", ("cat", "dog", "frog")),
        ("<cat>, **dog**, black__cat__big", ("cat", "dog", "black cat big")),
        ('"cat dog"', ("cat dog",)),
        ('"[cat:dog:0.5]"', ("[cat:dog:0.5]",)),
        ("ice cream and cake", ("ice cream", "cake")),
        ("mikuchan, banana", ("mikuchan", "banana")),
        ("knife, fork, spoon", ("knife", "fork", "spoon")),
        ("banana, watercolor, long hair", ("banana", "watercolor", "long hair")),
        ('"1girl", "solo", banana', ("1girl", "solo", "banana")),
        ("ink and blob style", ("ink", "blob style")),
        ("cat and ink style", ("cat", "ink style")),
        ("INK Style", ("ink style",)),
        ("style of Ink", ("ink style",)),
        ("van gogh style", ("van gogh style",)),
        ("in the style of van gogh", ("style of van gogh",)),
        ("lady and the tramp", ("lady and the tramp",)),
        ("The Lion and the Mouse", ("Lion and the Mouse",)),
        ('"cat and mouse"', ("cat and mouse",)),
        ("black_cat", ("black cat",)),
        ("golden_retriever, black-cat", ("golden retriever", "black-cat")),
        ("ice-cream", ("ice cream",)),
        ("forget the cats and dogs", ("cat", "dog")),
        ("remove cats, dogs and frogs", ("cat", "dog", "frog")),
        ("Forget Paris", ("Forget Paris",)),
        ("forget mikuchan please", ("mikuchan",)),
        ("forget me not", ("forget me not",)),
        ("forget-me-not", ("forget-me-not",)),
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
        ("hatsune_miku_(vocaloid)", ("hatsune miku (vocaloid)",)),
        ("saber_(fate/stay_night), (rem_(re:zero):1.2)", ("saber (fate/stay night)", "rem (re:zero)")),
        ("cat, please", ("cat",)),
        ("cat, dog, etc.", ("cat", "dog")),
        ("Cats, thank you!", ("cat",)),
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
        ("how do I remove watermarks?", "which word is meant? Write that word alone"),
        ("I don’t want cats", "'cat'? It would take 'cat'"),
        ("cats should be gone", "'cat'? It would take 'cat'"),
        ("make cats disappear", "'cat'? It would take 'cat'"),
        ("cats unless black", "'cat'? It would take 'cat'"),
        ("dogs with hats", "'dog' or 'hat'? It would take 'dog'"),
        ("cat on table", "'cat' or 'table'? It would take 'cat'"),
    ],
)
def test_a_sentence_is_questioned(typed, asked):
    with pytest.raises(BadSetting) as e:
        read_wish(typed, LISTS)
    assert "reads as a sentence" in str(e.value) and asked in str(e.value) and "'Go on regardless'" in str(e.value)
    assert len(read_wish(typed, LISTS, force=True).concepts) == 1
    with pytest.raises(BadSetting, match="reads as a sentence"):
        read_names(typed, LISTS)


@pytest.mark.parametrize(
    "typed",
    [
        *(
            "forget the cat",
            "Forget cats",
            "remove cats",
            "no more cats",
            "less cats",
            "fewer cats",
            "cats please",
            "cats only",
            "please make it forget cats",
            "erase the cat",
        ),
        *("erase the cat", "delete cat", "unlearn: cat", "don't draw cats", "do not draw a cat"),
        *("stop drawing cats", "get rid of cats", "Please forget cat", "FORGET the CAT!"),
        *("I want you to forget cats", "can you please forget all cats", "make the model forget cats", "FORGET CATS"),
        *(
            "remove cats from this model",
            "forget about the cat forever",
            "forget the concept of cat",
            "Please forget cat",
        ),
        *("don't draw cats anymore", "never draw a cat again", "the concept of cats", "the word cat", "concept: cat"),
    ],
)
def test_a_command_is_understood_as_its_noun(typed):
    assert read_wish(typed, LISTS).concepts == ("cat",)


@pytest.mark.parametrize(
    ("plural", "one"),
    [
        *(("knives", "knife"), ("mice", "mouse"), ("children", "child"), ("wolves", "wolf"), ("cacti", "cactus")),
        *(("geese", "goose"), ("men", "man"), ("women", "woman"), ("teeth", "tooth"), ("bookshelves", "bookshelf")),
        *(("cherries", "cherry"), ("strawberries", "strawberry"), ("buses", "bus"), ("churches", "church")),
    ],
)
def test_plurals_that_no_rule_makes_are_known_both_ways(plural, one):
    assert read_wish(plural, LISTS).concepts == read_wish(one, LISTS).concepts == (one,)
    assert read_wish(f"{plural}, {one}", LISTS).concepts == (one,)


@pytest.mark.parametrize(
    ("typed", "take"),
    [
        ("1girl, solo, banana", "'banana'"),
        ("masterpiece, best quality, cat", "'cat'"),
        ("cat, highly detailed, 8k", "'cat'"),
        ("score_9, score_8_up, a red apple", "'apple'"),
        ("girl, long hair, red dress, in a park", "'dress'"),
        ("cat, sitting", "'cat'"),
        ("knife, spoon, fork, cup, plate", "'cup'"),
    ],
)
def test_the_tags_of_a_prompt_are_questioned(typed, take):
    with pytest.raises(BadSetting, match=f"reads as a prompt: which word is meant.* It would take {take}"):
        read_wish(typed, LISTS)
    assert len(read_wish(typed, LISTS, force=True).concepts) == typed.count(",") + 1


def test_tags_alone_have_no_suggestion():
    with pytest.raises(BadSetting, match="reads as a prompt: which word is meant\\? Write that word alone"):
        read_wish("1girl, masterpiece", LISTS)


@pytest.mark.parametrize(
    "typed",
    ["cat and dog style", "cat and knife", "fire and ice", "black cat or a dogs"]
    + ["cat:dog", "cat dog", "Cats Dogs", "the cat the dog", "banana car", "cat dog frog"]
    + ["cat - dog", "cat – dog", "cat\\dog", "cat vs. dog", "wombat versus cat", "cat plus dog"],
)
def test_what_may_be_one_or_two_is_questioned(typed):
    with pytest.raises(BadSetting, match="may be one name or (two|several)|reads as a sentence"):
        read_wish(typed, LISTS)


@pytest.mark.parametrize(
    "typed",
    [
        *("cat, but not dogs", "cat, not dog", "cats but keep dogs", "forget cats but keep dogs", "dogs (not puppies)"),
        *("cat except kittens", "cat -dog", "cats, keep dogs", "all cats other than lions", "cat, except for kittens"),
        *("keep cats", "except cats", "keeping the cat"),
        *("cat, -dog", "cats, -dogs, -frogs", "cat, no dogs", "cat; without dogs", "猫，-狗"),
    ],
)
def test_what_is_to_stay_is_not_forgotten_with_the_rest(typed):
    with pytest.raises(BadSetting, match="also says what is to stay.*under 'Keep'"):
        read_wish(typed, LISTS)
    assert read_wish(typed, LISTS, force=True).concepts


@pytest.mark.parametrize(
    "typed",
    ["forget me not", "no cats", "not cat", '"cat, not dog"', "T -shirt"]
    + ["The Cat in the Hat", "Keep Calm", "less is more", "Apocalypse Now", "Spider-Man", "x-ray", "jack-in-the-box"],
)
def test_names_with_such_words_are_taken(typed):
    assert len(read_wish(typed, LISTS).concepts) == 1


def random_texts():
    rng = random.Random(5)
    alphabet = "abcxyz ,;:.'\"()[]{}<>|/\\+&_-*~0123\n\táßéİıſﬃ猫語ロکلب「」（：｜。😀🏳️\u0301\u0345\u2028\ue000\ud83d"
    words = [
        "cat",
        "dogs",
        "a",
        "the",
        "and",
        "AND",
        "BREAK",
        "style",
        "<lora:",
        ":1.2)",
        "forget",
        "of",
        "with",
        "1girl",
    ]
    for _ in range(300):
        tokens = [rng.choice(words) if rng.random() < 0.5 else rng.choice(alphabet) for _ in range(rng.randint(1, 14))]
        yield rng.choice(["", " "]).join(tokens)


@pytest.mark.parametrize("force", [False, True])
def test_no_text_at_all_is_a_crash_and_what_is_understood_stays_as_it_is(force):
    understood = 0
    for text in random_texts():
        try:
            concepts = read_wish(text, LISTS, force).concepts
        except BadSetting:
            continue
        assert concepts and all(c.strip() == c and c.isprintable() for c in concepts)
        if '"' in text or "\\" in text:
            continue  # what stood in quotes may be anything, and an escaped bracket stays
        understood += 1
        for concept in concepts:
            assert read_wish(concept, LISTS, True).concepts == (concept,), text
    assert understood > 50


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
        "{an s}",
        "{o}",
        "x",
        "(a:1.2)",
        *("「」", "。", "（）", "『「」』", "（：1.2）", "・", "｜"),
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
    with contextlib.suppress(BadSetting):
        read_wish(typed, LISTS)
    read_wish(typed, LISTS, force=True)
    assert time.process_time() - begun < 2


def test_mentioned_prefers_the_longer_name():
    assert mentioned("a comic book on a table", LISTS) == ["comic book", "table"]


def test_a_word_that_a_list_and_the_vocabulary_spell_differently_is_read_once():
    """The list says "cats", the vocabulary "cat": each would lead to the other for ever."""
    own = replace(LISTS[0], objects={"animal": ("cats", "dogs")})
    ours = Vocabulary((Term("cat", "animal", "feline"), Term("dog", "animal", "canine")))
    for typed in ("cat", "cats", "Cats", "a cat"):
        assert read_wish(typed, [own], vocabulary=ours).concepts == ("cats",)


@pytest.mark.parametrize(
    "typed", ["\ufeffcat", "ca\u200bt", "cat\u200d", "\u200ecat\u200f", "ca\xadt", "1. cat", "cats"]
)
def test_marks_that_are_copied_along_and_numbers_of_a_list_come_off(typed):
    assert read_wish(typed, LISTS).concepts == ("cat",)
    assert ForgetConfig(concept=typed.replace("1. ", "")).concept.startswith("cat")


def test_what_looks_the_same_needs_no_word_about_it():
    assert read_wish("\ufeffcat", LISTS).note == "" == read_wish("cafe\u0301", LISTS).note
    assert read_wish("cafe\u0301", LISTS).concepts == ("caf\u00e9",)


@pytest.mark.parametrize("typed", ["everything", "Forget everything", "nothing", "anything", "something, whatever"])
def test_a_word_for_all_or_nothing_is_no_concept(typed):
    with pytest.raises(BadSetting, match="names no concept"):
        read_wish(typed, LISTS)
    assert read_wish("Everything Everywhere", LISTS).concepts == ("Everything Everywhere",)
