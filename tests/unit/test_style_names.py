"""The ways in which an artist names a style, and what is none though it reads alike."""

import time

import pytest

from tests.tiny import WORDS, TinyHost
from unlearn_core import BadSetting, ForgetConfig, Stack
from unlearn_core.method.request import Request
from unlearn_core.words.prompts import Scene, place, style_words
from unlearn_core.words.vocabulary import bundled
from unlearn_core.words.wish import read_wish
from unlearn_core.words.word_list import WordList

LISTS = [WordList.load(WORDS), WordList.load(None)]


@pytest.mark.parametrize(
    ("typed", "concept", "bare"),
    [
        *(
            (typed, "Ghibli style", "Ghibli")
            for typed in ("in Ghibli style", "in a Ghibli style", "In the Ghibli style", "in Ghibli-style")
        ),
        *(
            (t, "Ghibli style", "Ghibli")
            for t in ("forget in Ghibli style", "a drawing in Ghibli style", "(in Ghibli style:1.2)")
        ),
        *(("in an Ink style", "ink style", "ink"), ("in cartoon styles", "cartoon style", "cartoon")),
        *(("in black and white style", "black and white style", "black and white"),),
        *(
            (f"{before} Greg Rutkowski", "style of Greg Rutkowski", "Greg Rutkowski")
            for before in (
                "art by",
                "by",
                "artwork by",
                "a drawing by",
                "Paintings by",
                "an oil painting by",
                "drawn by",
            )
        ),
        *(
            (f"{before} style of Van Gogh", "style of Van Gogh", "Van Gogh")
            for before in (
                "in the",
                "in a",
                "in",
                "art in the",
                "a painting in the",
                "painted in the",
                "concept art in the",
            )
        ),
        ("art by the Brothers Hildebrandt", "style of the Brothers Hildebrandt", "the Brothers Hildebrandt"),
    ],
)
def test_a_style_however_it_is_named(typed, concept, bare):
    for vocabulary in (None, bundled()):
        assert read_wish(typed, LISTS, vocabulary=vocabulary).concepts == (concept,)
    assert LISTS[0].kind(concept) == "style" and style_words(concept) == bare


@pytest.mark.parametrize(
    "typed",
    ["By the Sea", "by the sea", "By a Hair", "a painting by the sea", "Made in Abyss", "Drawn Together", "In Bruges"]
    + ["Stand by Me", "In Living Color", "painted turtle", "lifestyle", "Gangnam Style Dance", "art by", "prints"],
)
def test_what_reads_alike_is_no_style(typed):
    (concept,) = read_wish(typed, LISTS, force=True).concepts
    assert LISTS[0].kind(concept) == "object" and style_words(concept) == concept


@pytest.mark.parametrize("typed", ["in style", "in the style", "in a style of", "in the style of the", "by", "by the"])
def test_a_style_without_its_name_is_refused(typed):
    with pytest.raises(BadSetting, match="names no concept"):
        read_wish(typed, LISTS)


@pytest.mark.parametrize("typed", ["cat, in Ghibli style", "a cat in Ghibli style"])
def test_a_style_within_a_prompt_is_still_questioned(typed):
    with pytest.raises(BadSetting, match="reads as a (prompt|sentence)"):
        read_wish(typed, LISTS)


@pytest.mark.parametrize(
    "named", ["in a blob style", "in the style of blob", "in blob style", "style of blob", "blob style"]
)
def test_the_python_api_reads_it_too_also_as_what_is_drawn_instead(named):
    request = Request.read(TinyHost(), ForgetConfig(concept=named, quality="quick"), Stack())
    assert (request.kind, request.concept) == ("style", "blob")
    scene = Scene("{an o} in the style of {s}", "cat", "ink")
    assert place(scene, named, "style").prompt == "a cat in the style of blob"


def test_a_long_text_is_read_in_no_time():
    begun = time.process_time()
    for text in ("in " * 1300, "art by " * 570, "in the " + "x style " * 480, "in a " + "-style" * 660 + "x"):
        style_words(text)
        read_wish(text + " gizmo", LISTS, force=True)
    assert time.process_time() - begun < 2
