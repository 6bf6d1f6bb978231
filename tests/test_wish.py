"""Words of a wish: what counts as the same thing, what may stand in for it and what is held beside it."""

import pytest

from tests.tiny import WORDS, TinyHost
from unlearn_core import BadSetting, ForgetConfig
from unlearn_core.method.anchor import choose_unseen, possible
from unlearn_core.method.token_moments import kept_sentences
from unlearn_core.words.compare import content_words, same_thing, share_a_word
from unlearn_core.words.prompts import names
from unlearn_core.words.word_list import WordList


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a banana", {"banana"}),
        ("(banana:1.3)", {"banana"}),
        ("[[the Banana]], ((banana))1.2", {"banana"}),
        ("in the style of Van Gogh", {"van", "gogh"}),
        ("1girl, solo, golden_retriever", {"girl", "solo", "golden", "retriever"}),
        ("Picasso's t-shirt", {"picasso", "shirt"}),
        ("agent 007", {"agent", "007"}),
        ("The The", {"the"}),
        ("ＢＡＮＡＮＡ", {"banana"}),
        ("赤い 魚", {"赤い", "魚"}),
        ("हिन्दी", {"हिन्दी"}),
        ("...", set()),
    ],
)
def test_what_a_text_names(text, words):
    assert content_words(text) == words


SAME = [
    ("a banana", "Bananas"),
    ("cherry", "the cherries"),
    ("box", "boxes"),
    ("bus", "buses"),
    ("horse", "horses"),
    ("shoe", "shoes"),
    ("tomato", "tomatoes"),
    ("zombie", "zombies"),
    ("glass", "glasses"),
    ("style of Monet", "monet style"),
    ("???", "???"),
]
SHARED = [("banana", "banana split"), ("hot dog", "dogs"), ("red apple", "green apple"), ("1girl, solo, cat", "a girl")]
APART = [
    ("cap", "cape"),
    ("car", "carpet"),
    ("prince", "princess"),
    ("t-shirt", "t-rex"),
    ("a cat", "a dog"),
    ("", "cat"),
]


@pytest.mark.parametrize(("one", "other"), SAME + SHARED + APART)
def test_the_same_thing_and_a_shared_word(one, other):
    pair = (one, other)
    assert same_thing(*pair) == same_thing(other, one) == (pair in SAME)
    if one != "???":
        assert share_a_word(*pair) == share_a_word(other, one) == (pair not in APART)


@pytest.mark.parametrize("concept", ["a banana", "the bananas", "banana.", "(banana:1.3)", "1girl, solo, banana"])
def test_the_nearest_word_is_never_the_target_itself(concept):
    words = WordList.load(WORDS)
    choice = choose_unseen(TinyHost(), ForgetConfig(concept=concept), concept, "object", words, (), ())
    assert choice.anchor in words.all_objects and choice.anchor != "banana"
    assert possible(["banana", "pear"], concept, words, (), ()) == ["pear"]


def test_what_may_stand_in_shares_no_word_and_is_no_earlier_target():
    words = WordList.load(None)
    assert possible(["dog", "cat"], "hot dog", words, (), ()) == ["cat"]
    assert possible(["banana", "dog", "pear"], "cat", words, ("a banana", "hot dog"), ()) == ["dog", "pear"]
    assert possible(["cat", "pear"], "animals", words, (), ()) == ["pear"]


@pytest.mark.parametrize("concept", ["a banana", "Bananas", "(banana:1.3)"])
def test_sentences_of_the_target_are_not_held(concept):
    lists = [WordList.load(WORDS), WordList.load(None)]
    held = kept_sentences(lists, [concept], 0)
    assert not any(names(t, "banana") for t in held) and any(names(t, "pear") for t in held)
    assert held.keys() == kept_sentences(lists, ["banana"], 0).keys()


def test_a_part_of_the_target_is_held():
    held = kept_sentences([WordList.load(WORDS), WordList.load(None)], ["hot dog"], 0)
    assert any(names(t, "dog") for t in held)


def test_neighbours_leave_out_the_target_alone():
    words = WordList.load(None)
    assert "banana" not in words.rivals("a banana", "object") and "dog" in words.rivals("hot dog", "object")
    assert "banana" not in words.without(["bananas"]).all_objects


def test_an_anchor_with_a_word_of_the_target_is_refused_in_words():
    with pytest.raises(BadSetting, match="replaced by itself"):
        ForgetConfig(concept="a banana", anchor="banana")
    with pytest.raises(BadSetting, match="shares a word with 'red apple'.*something else"):
        ForgetConfig(concept="red apple", anchor="green apple")
    assert ForgetConfig(concept="a red apple", anchor="a pear").anchor == "a pear"
