"""Words of a wish: what a text names, and what counts as the same thing."""

import pytest

from unlearn_core import BadSetting, ForgetConfig
from unlearn_core.words.compare import content_words, same_thing, share_a_word
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
        ("เสื้อ, เสือ", {"เสื้อ", "เสือ"}),
        ("cafe\u0301 ❤️", {"café"}),
        ("מֵי־יָם", {"מי", "ים"}),
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
    ("style of Monet", "monet style"),
    ("???", "???"),
]
SHARED = [
    ("T-shirt", "shirt"),
    ("e-book", "book"),
    ("banana", "banana split"),
    ("hot dog", "dogs"),
    ("red apple", "green apple"),
    ("1girl, solo, cat", "a girl"),
]
APART = [
    ("cap", "cape"),
    ("glass", "glasses"),
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
