"""The vocabulary that the tool brings along: what its words are, which belong together, and what is left out of it."""

import time

import pytest

from unlearn_core.words import vocabulary as module
from unlearn_core.words.plurals import readings
from unlearn_core.words.vocabulary import KINDS, Term, Vocabulary, bundled, is_form, key, may_be_form

KNOWN = {
    "animal": "cat dog wolf horse penguin tiger elephant bee shark butterfly bear bulldog chicken salmon whale leopard "
    "otter turtle jellyfish cobra bunny donkey shrimp",
    "food": "banana apple pizza bread hamburger coffee wine mushroom orange pineapple potato lettuce taco plum peanut",
    "plant": "rose sunflower oak cactus tulip bamboo grass palm",
    "thing": "watermark logo car guitar umbrella sword laptop lamp shoe castle piano bicycle helicopter snowman "
    "signature text caption barcode smartphone television table ring watch chess needle clocks trumpets logos sunset "
    "crown",
    "place": "mountain beach kitchen forest Paris Tokyo London waterfall church school Alps",
    "profession": "nurse doctor firefighter astronaut soldier king clown pirate",
    "character": "Pikachu|Spider-Man|Mickey Mouse|Darth Vader|Elsa|dragon|unicorn|witch|Sherlock Holmes|Tom and Jerry|"
    "Superman|Wonder Woman|Peter Pan|Cinderella",
    "person": "Taylor Swift|Albert Einstein|Marilyn Monroe|woman|child|Napoleon",
    "artist": "Claude Monet|Vincent van Gogh|Picasso|Hayao Miyazaki|Greg Rutkowski",
    "style": "watercolor|pixel art|cubism|impressionism|anime|steampunk|oil painting|charcoal|ukiyo-e",
}


@pytest.mark.parametrize("kind", KNOWN)
def test_words_are_of_their_kind(kind):
    words = KNOWN[kind].split("|" if "|" in KNOWN[kind] else " ")
    found = {word: term.kind if (term := bundled().find(word)) else "unknown" for word in words}
    assert found == dict.fromkeys(words, kind)


def test_it_is_large_and_sound_and_read_at_once():
    module.bundled.cache_clear()
    begun = time.process_time()
    terms = bundled().terms
    assert time.process_time() - begun < 0.5  # a tenth of it, where nothing else runs
    assert len(terms) == 20_000 and {t.kind for t in terms} == KINDS
    assert all(t.text == t.text.strip() and t.text.isprintable() and t.category for t in terms)
    assert len({key(t.text) for t in terms}) > 19_900
    categories = {t.category for t in terms}
    assert 150 < len(categories) < 300
    assert module.FILE.stat().st_size < 200_000 and (module.FILE.parent / "vocabulary.NOTICE.txt").is_file()


def test_no_word_of_it_is_on_the_list_of_what_is_left_out():
    file = module.FILE.parents[3] / "benchmarks" / "vocabulary" / "left_out.txt"
    left_out = {line for line in file.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"}
    words = {word for t in bundled().terms for part in t.text.casefold().split() for word in readings(part)}
    assert len(left_out) > 100 and not words & left_out


@pytest.mark.parametrize(
    "typed, found",
    [
        ("Bananas", "banana"),
        ("mice", "mouse"),
        ("ice-cream", "ice cream"),
        ("Icecream", "ice cream"),
        ("claude monet", "Claude Monet"),
        ("hot dogs", "hot dog"),
        ("spider man", "Spider-Man"),
        ("glasses", "glasses"),
        *(("caves", "cave"), ("Vases", "vase"), ("cookies", "cookie"), ("cafes", "cafe"), ("axes", "axe")),
        *(("knives", "knife"), ("midwives", "midwife"), ("gloves", "glove"), ("hooves", "hoof"), ("zombies", "zombie")),
        *(("asdfgh", None), ("asdfghves", None), ("s", None), ("!!", None), (" \t", None), ("", None)),
    ],
)
def test_a_text_is_found_whatever_its_number_and_spelling(typed, found):
    term = bundled().find(typed)
    assert (term and term.text) == found


@pytest.mark.parametrize(("first", "second"), [("vase", "vas"), ("vas", "vase")])
def test_the_plural_of_two_terms_is_that_of_the_more_common_one(first, second):
    ours = Vocabulary((Term("cafe", "place", "place"), Term(first, "thing", "thing"), Term(second, "thing", "thing")))
    assert ours.find("vases").text == first and ours.find(second).text == second
    assert ours.find("caves") is None, "not even where nothing else is known"


def test_a_plural_that_is_a_term_itself_stays_one():
    ours = Vocabulary((Term("glove", "thing", "clothing"), Term("gloves", "thing", "sport")))
    assert ours.find("gloves").category == "sport" and ours.find("glove").category == "clothing"


def test_what_is_of_one_category_is_of_one_kind_first():
    fruit = [t.text for t in bundled().category("banana")][:20]
    assert {"apple", "orange", "peach"} <= set(fruit) and "banana" not in fruit
    characters = bundled().category("Pikachu")
    assert len(characters) > 100 and all(t.kind == "character" for t in characters[:100])
    assert bundled().category("asdfgh") == ()


def test_synonyms_are_told_and_kittens_are_not_cats():
    assert set(bundled().synonyms("car")) == {"auto", "automobile"}
    assert bundled().synonyms("cars") == bundled().synonyms("car")
    assert "kitten" not in bundled().synonyms("cat") and bundled().synonyms("asdfgh") == ()


def test_without_a_concept_its_forms_synonyms_and_compounds_are_gone():
    left = {t.text for t in bundled().without(["car", "mouse"]).terms}
    gone = {t.text for t in bundled().terms} - left
    assert {"car", "automobile", "auto", "police car", "mouse"} <= gone
    assert {"carpet", "card", "truck", "rat", "cart"} <= left and len(gone) < 80


@pytest.mark.parametrize(
    "text, concept, kind",
    [
        ("sparrow", "bird", True),
        ("owl", "birds", True),
        ("poodle", "dog", True),
        ("bird", "bird", False),
        ("sparrow", "owl", False),
        ("kitten", "cat", False),
        ("dachshund", "hot dog", False),
        ("asdfgh", "bird", False),
    ],
)
def test_what_is_a_kind_of_a_concept(text, concept, kind):
    assert bundled().same_again([text, "cloud"], ["spoon", concept]) == ({text} if kind else set())


def test_a_category_draws_what_belongs_to_it():
    assert bundled().same_again(["insects", "ant", "bee"], ["ants"]) == {"insects"}
    assert bundled().same_again(["insect", "ant"], ["asdfgh"]) == frozenset()


def test_without_a_category_all_its_kinds_are_gone():
    left = {t.text for t in bundled().without(["bird"]).terms}
    assert not {"bird", "sparrow", "owl", "penguin"} & left and {"bat", "butterfly", "fish"} <= left
    assert "sparrow" in {t.text for t in bundled().without(["owl"]).terms}


def test_more_terms_come_behind_and_change_no_kind():
    ours = Vocabulary((Term("cat", "animal", "feline"), Term("oak", "plant", "tree")))
    more = ours.plus([Term("Cat", "character", "character"), Term("Zog", "character", "character")])
    assert [t.text for t in more.terms] == ["cat", "oak", "Zog"] and more.find("cats").kind == "animal"
    assert ours.plus([Term("OAK", "food", "food")]) is ours and more.digest != ours.digest


DISTINCT = [("เสื้อ", "เสือ"), ("มด", "มีด"), ("केला", "काला"), ("கல்", "கால்"), ("❤️", "☀️"), ("cafe", "café")]
"""Shirt and tiger, ant and knife, banana and black, stone and leg; two emoji; an accent that has a letter."""
ALIKE = [
    *(("café", "cafe\u0301"), ("ガ", "ｶﾞ"), ("が", "か\u3099"), ("क़", "क\u093c"), ("İstanbul", "Istanbul")),
    *(
        ("шалом", "шало\u0301м"),
        ("שלום", "שָׁלוֹם"),
        ("محمد", "مُحَمَّد"),
        ("Ｃａｔ", "cat"),
        ("केला", "केला!"),
        ("1️⃣ up", "1 up"),
    ),
]
"""Letters with their accents in one sign or in two; accents and vowel points that may as well be left out."""


@pytest.mark.parametrize(("one", "other"), DISTINCT)
def test_vowel_and_tone_signs_tell_words_apart(one, other):
    assert key(one) != key(other) and not is_form(one, other)
    ours = Vocabulary((Term(one, "thing", "a"),))
    assert ours.find(other) is None and ours.find(one).category == "a"
    both = ours.plus([Term(other, "animal", "b")])
    assert both.find(one).category == "a" and both.find(other).category == "b"
    assert [t.text for t in both.without([one]).terms] == [other]


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_accents_in_one_sign_or_two_are_one_word(one, other):
    assert key(one) == key(other) and Vocabulary((Term(one, "thing", "a"),)).find(other)


@pytest.mark.parametrize("text", ["", "!", "\ufe0f", "\u0301", "\u0e49", "\ud83d", "\U000e0100\u20e3", "👍🏽", "❤"])
def test_a_text_without_letters_is_its_own_key(text):
    assert key(text) == text


@pytest.mark.parametrize(
    "text, concept, alike",
    [
        *(("bananas", "banana", True), ("wolfish", "wolf", False), ("guitarist", "guitar", True)),
        *(("cattle", "cat", False), ("card", "car", False), ("airplanes", "airplane", True), ("dog", "cat", False)),
    ],
)
def test_the_spelling_rule(text, concept, alike):
    assert may_be_form(text, concept) is alike
