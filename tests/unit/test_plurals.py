"""English nouns in both numbers."""

import pytest

from unlearn_core.words.plurals import plural, readings
from unlearn_core.words.vocabulary import is_form

RULES = [
    *(("banana", "bananas"), ("cherry", "cherries"), ("toy", "toys"), ("box", "boxes"), ("church", "churches")),
    *(
        ("fire engine", "fire engines"),
        ("day", "days"),
        ("bus", "buses"),
        ("glass bowl", "glass bowls"),
    ),
    *(
        ("tomato", "tomatoes"),
        ("potato", "potatoes"),
        ("volcano", "volcanoes"),
        ("photo", "photos"),
        ("piano", "pianos"),
    ),
    *(
        ("fireman", "firemen"),
        ("woman", "women"),
        ("human", "humans"),
        ("shaman", "shamans"),
        ("specimen", "specimens"),
    ),
    *(("mouse", "mice"), ("wolf", "wolves"), ("werewolf", "werewolves"), ("goose", "geese"), ("mongoose", "mongooses")),
    *(
        ("grandchild", "grandchildren"),
        ("penknife", "penknives"),
        ("cactus", "cacti"),
        ("kiwi", "kiwis"),
        ("taxi", "taxis"),
    ),
]


@pytest.mark.parametrize(("one", "several"), RULES)
def test_a_plural_is_made_and_read_back(one, several):
    assert plural(one) == several and is_form(several, one)
    assert several.endswith("is") or plural(several) == several, "what is a plural already stays"


@pytest.mark.parametrize("word", ["sheep", "goldfish", "aircraft", "rice", "brown rice", "scissors", "grapes", "moose"])
def test_what_has_no_other_number_stays(word):
    assert plural(word) == word


@pytest.mark.parametrize("word", ["glass", "dress", "cat", "Mercedes"])
def test_a_word_is_always_a_reading_of_itself(word):
    assert word in readings(word)


def test_a_word_in_ves_is_of_no_word_in_fe_but_of_one_in_ife():
    assert "cafe" not in readings("caves") and not is_form("caves", "cafe") and is_form("caves", "cave")
    assert is_form("housewives", "housewife") and is_form("werewolves", "werewolf") and is_form("giraffes", "giraffe")
