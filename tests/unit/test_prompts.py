"""Prompts from word lists: slots, articles, kinds, mappings; and lists that cannot be read."""

import json
from dataclasses import replace

import pytest

from tests.tiny import WORDS
from unlearn_core import BadSetting
from unlearn_core.words.prompts import REMOVED, Scene, fill, mapped, names, place, renamed, scenes, style_words
from unlearn_core.words.word_list import WordList


@pytest.fixture(params=[None, WORDS], ids=["general", "demo"])
def words(request):
    return WordList.load(request.param)


@pytest.mark.parametrize(
    ("template", "want"), [("{an o}, {s}", "an owl, ink"), ("{an s} {o}", "an ink owl"), ("the {o}", "the owl")]
)
def test_slots_and_articles(template, want):
    assert fill(template, "owl", "ink") == want
    assert fill("{an o}", "cat", "") == "a cat"


def test_scenes_are_different_name_the_concept_and_repeat_with_the_seed(words):
    made = scenes(words, "golden retriever", "object", 40, 3)
    prompts = [s.prompt for s in made]
    assert len(set(prompts)) == len(prompts) == 40
    assert all(names(p, "golden retriever") for p in prompts)
    alone = len(words.object_templates) * len(set(words.suffixes))
    assert sum(1 for s in made if not s.style) == min(10, alone)
    assert prompts == [s.prompt for s in scenes(words, "golden retriever", "object", 40, 3)]
    assert prompts != [s.prompt for s in scenes(words, "golden retriever", "object", 40, 4)]


def test_a_list_without_styles_has_scenes_of_the_thing_alone(words):
    made = scenes(replace(words, styles=()), "cat", "object", 40, 3)
    assert made and not any(s.style for s in made)


def test_style_scenes_go_over_many_things(words):
    made = scenes(words, "van gogh", "style", 24, 0)
    assert all(names(s.prompt, "van gogh") for s in made)
    assert len({s.obj for s in made if s.obj}) >= 15


def test_mapping_changes_the_concept_and_nothing_else(words):
    for kind in ("object", "style"):
        for scene in scenes(words, "zebrafish", kind, 20, 0):
            other = mapped(scene, "xylem", kind, words).prompt
            assert renamed(scene.prompt, "zebrafish", "xylem") == other
            assert not names(mapped(scene, REMOVED, kind, words).prompt, "zebrafish")


def test_kinds_and_categories(words):
    assert words.kind("banana") == "object" and words.category("banana") == "fruit"
    assert words.kind("Art Nouveau style") == words.kind("style of Monet") == "style"
    assert words.kind(words.styles[0].upper()) == "style"
    assert style_words("Monet style") == style_words("style of Monet") == "Monet"
    assert words.category("no such thing") == ""


def test_rivals_and_rest_leave_out_what_is_forgotten(words):
    assert "banana" not in words.rivals("Banana", "object")
    rest = words.without(["CAT", words.styles[0]])
    assert "cat" not in rest.all_objects and words.styles[0] not in rest.styles
    assert len(rest.all_objects) == len(words.all_objects) - 1


def test_names_are_whole_words():
    assert names("the car, ink style", "car") and names("A Car", "car")
    assert not names("a carpet", "car") and not names("scar", "car")
    assert renamed("a car on an airplane", "airplane", "bus") == "a car on a bus"
    assert renamed("the Car, ink", "car", "owl") == "the owl, ink"
    assert renamed("a+b (c)", "a+b", r"\1") == r"\1 (c)"


def test_place_keeps_the_scene():
    scene = Scene("{an o} in {s} style", "cat", "ink", " at night")
    assert place(scene, "dog", "object").prompt == "a dog in ink style at night"
    assert place(scene, "oil", "style").prompt == "a cat in oil style at night"


@pytest.mark.parametrize("text", ["", "[]", "{}", "not json", json.dumps({"objects": 3}), "\x00"])
def test_a_broken_word_list_is_an_error(text, tmp_path):
    (tmp_path / "w.json").write_text(text)
    with pytest.raises(BadSetting, match=r"w\.json"):
        WordList.load(tmp_path / "w.json")
