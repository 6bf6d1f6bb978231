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
    *(
        ("blouse", "blouses"),
        ("louse", "lice"),
        ("woodlouse", "woodlice"),
        ("chalice", "chalices"),
        ("slice", "slices"),
    ),
    *(
        ("titmouse", "titmice"),
        ("forefoot", "forefeet"),
        ("sabertooth", "sabertooths"),
        ("ox", "oxen"),
        ("fox", "foxes"),
    ),
    *(("talisman", "talismans"), ("German", "Germans"), ("Doberman", "Dobermans"), ("dolman", "dolmans")),
    *(("midwife", "midwives"), ("meatloaf", "meatloaves"), ("bookshelf", "bookshelves"), ("doorman", "doormen")),
    *(("lens", "lenses"), ("camera lens", "camera lenses"), ("canvas", "canvases"), ("Cyclops", "Cyclopses")),
    *(("rhinoceros", "rhinoceroses"), ("atlas", "atlases"), ("lens of glass", "lenses of glass")),
]


@pytest.mark.parametrize(("one", "several"), RULES)
def test_a_plural_is_made_and_read_back(one, several):
    assert plural(one) == several and is_form(several, one)
    assert several.endswith("is") or plural(several) == several, "what is a plural already stays"


@pytest.mark.parametrize(
    "word",
    ["sheep", "goldfish", "aircraft", "rice", "brown rice", "scissors", "grapes", "moose"]
    + ["eyeglasses", "binoculars", "colors", "frog legs", "dice", "algae", "debris", "pumice"],
)
def test_what_has_no_other_number_stays(word):
    assert plural(word) == word


@pytest.mark.parametrize("word", ["glass", "dress", "cat", "Mercedes"])
def test_a_word_is_always_a_reading_of_itself(word):
    assert word in readings(word)


@pytest.mark.parametrize("pair", ["lens len", "canvas canva", "slice slouse", "blice blouse", "atlas atla", "gas ga"])
def test_a_singular_is_no_plural_of_what_no_word_is(pair):
    assert not is_form(*pair.split())


@pytest.mark.parametrize("text", ["", " ", "s", "of", " of ", "ſ", "猫", "lens's", "louse ", "x" * 5000 + "lice"])
def test_any_text_is_a_reading_of_itself_and_has_a_plural(text):
    assert text in readings(text) and isinstance(plural(text), str)


def test_a_word_in_ves_is_of_no_word_in_fe_but_of_one_in_ife():
    assert "cafe" not in readings("caves") and not is_form("caves", "cafe") and is_form("caves", "cave")
    assert is_form("housewives", "housewife") and is_form("werewolves", "werewolf") and is_form("giraffes", "giraffe")
