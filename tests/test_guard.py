"""Which words the text guard holds, and which of them count more."""

from tests.test_judge import Pictures
from unlearn_core.guard import NEAR, NEAR_SENTENCES, SENTENCES, kept_tokens, nearest
from unlearn_core.prompts import WordList

COLOURS = {"guitar": 1.0, "violin": 0.9, "truck": 0.7, "ink": 0.8, "pear": -1.0, "bass": 1.0}


def lists():
    host = Pictures(COLOURS, default=-3.0)
    return host, [WordList.load(host.words_file), WordList.load(None)]


def test_the_nearest_words_of_the_targets_kind_come_from_both_lists():
    host, words = lists()
    near = nearest(host, words, "guitar", "object", ["guitar"])
    assert near[:3] == ("violin", "truck", "pear") and len(near) == NEAR
    assert "violin" not in words[0].all_objects and "ink" not in near


def test_what_names_the_target_or_has_gone_is_not_near():
    host, words = lists()
    assert "truck" not in nearest(host, words, "guitar", "object", ["guitar", "truck"])
    # "ink drawing" of the general list is another name of it
    assert any("ink" in style.split() for style in words[1].styles)
    assert not any("ink" in style.split() for style in nearest(host, words, "ink", "style", ["ink"]))


def test_near_words_are_in_more_sentences():
    host, words = lists()
    plain = kept_tokens(host, words[1:], ["guitar"], 0)
    more = kept_tokens(host, words[1:], ["guitar"], 0, ["violin"])
    assert len(more) - len(plain) == NEAR_SENTENCES - SENTENCES
