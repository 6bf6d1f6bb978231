"""What a concept is taken for, told before anything runs."""

import pytest

from tests.tiny import WORDS, TinyHost
from tests.unit.runs import stack_on
from unlearn_core import Stack
from unlearn_core.method.wishes import read_requests
from unlearn_core.words.understood import about_kept, forms_of, understood
from unlearn_core.words.vocabulary import bundled
from unlearn_core.words.word_list import WordList

GENERAL = WordList.load(None)


def told(concept, kind="object", **more):
    return understood(concept, kind, GENERAL, bundled(), **more)


def test_a_thing_is_told_with_its_category_its_plural_and_its_neighbours():
    found = told("banana")
    assert (found.kind, found.what, found.forms) == ("object", "food, edible fruit", ("bananas",))
    assert len(found.near) == 5
    assert {*found.near} <= {*GENERAL.objects["fruit"]} - {"banana"}
    assert found.sentences[0] == "'banana' is read as a thing (food, edible fruit)."
    assert found.sentences[1] == "With it goes 'bananas'."


def test_characters_stand_beside_characters_and_artists_beside_artists():
    kinds = {t.text: t.kind for t in bundled().terms}
    assert {kinds[n] for n in told("Pikachu").near} == {"character"}
    artist = told("Claude Monet", "style")
    assert {kinds[n] for n in artist.near} == {"artist"}
    assert artist.forms == () and artist.sentences[0] == "'Claude Monet' is read as a style (artist)."


def test_synonyms_are_told_and_are_not_near():
    found = told("car")
    assert found.synonyms == ("auto", "automobile") and "stay: 'auto' and 'automobile'" in " ".join(found.sentences)
    assert not {"auto", "automobile", "police car"} & {*found.near}


@pytest.mark.parametrize(("concept", "one", "other"), [("bird", "falcon", "owl"), ("flower", "orchid", "rose")])
def test_kinds_of_it_are_told_and_are_not_near(concept, one, other):
    found = told(concept)
    assert one in found.kinds and not {one, other} & {*found.near}
    assert f"Its kinds may go with it, as '{found.kinds[0]}'" in " ".join(found.sentences)
    assert not {*found.kinds} & {*GENERAL.all_objects}, "what a list names is preserved"


def test_a_group_of_the_list_stays_and_that_is_told():
    found = told("fruit")
    assert found.group == GENERAL.objects["fruit"][:3] and not {*found.group} & {*found.near} and found.kinds == ()
    assert "'fruit' is a group: 'apple', 'banana', 'orange' and others stay." in " ".join(found.sentences)
    assert understood("animal", "object", OWN, None).group == OWN.objects["animal"][:3]


def test_a_style_has_nothing_of_the_thing_with_its_name():
    found = told("ink style", "style")
    assert (found.what, found.forms, found.synonyms, found.kinds) == ("", (), (), ()) and found.near[
        0
    ] in GENERAL.styles


def test_what_has_no_narrower_category_stands_beside_its_group():
    assert {*told("apple pie").near} <= {*GENERAL.objects["food"]}


def test_what_goes_as_well_is_not_near():
    first = told("banana").near[0]
    assert first not in told("banana", moving=(first,)).near


def test_a_word_of_no_list_is_told_without_neighbours():
    assert told("asdfgh").sentences == ("'asdfgh' is read as a thing.",)


@pytest.mark.parametrize(
    "concept, forms",
    [
        *(("teapot", ("teapots",)), ("knife", ("knives",)), ("nurse", ("nurses",)), ("glass", ("glasses",))),
        *(("tomato", ("tomatoes",)), ("kiwi", ("kiwis",)), ("bus", ("buses",)), ("sheep", ()), ("rice", ())),
        *(("blouse", ("blouses",)), ("camera lens", ("camera lenses",)), ("canvas", ("canvases",)), ("dice", ())),
        *(("grapes", ()), ("scissors", ()), ("Pikachu", ()), ("Paris", ()), ("watercolor", ()), ("asdfgh", ())),
    ],
)
def test_only_nouns_have_a_plural(concept, forms):
    assert forms_of(concept, bundled()) == forms


def test_the_wish_tells_it_where_the_checkpoint_has_no_list_alone():
    wish, configs = read_requests({"concept": "Teapots, claude monet"}, None, Stack())
    assert wish.concepts == ("teapot", "Claude Monet") == tuple(c.concept for c in configs)
    assert "'teapot' is read as a thing" in wish.note and "'Claude Monet' is read as a style (artist)" in wish.note
    assert read_requests({"concept": "banana"}, WORDS, Stack())[0].note == ""


@pytest.mark.parametrize(
    ("typed", "concepts"),
    [("cat, dog, horse", {"cat", "dog", "horse"}), ("Pixar, Picasso", {"Pixar", "Picasso"})],
)
def test_nothing_of_a_wish_stands_beside_another_part_of_it(typed, concepts):
    """Neither what goes after it nor what has gone before it."""
    wish, _ = read_requests({"concept": typed}, None, Stack())
    near = [note for note in wish.about if note.startswith("Near it, to stay")]
    shown = {word for note in near for word in note.rstrip(".").partition(": ")[2].split(", ")}
    assert len(near) >= 2 and not shown & concepts


def test_what_the_stack_has_forgotten_is_not_near():
    stack = stack_on(TinyHost(), {"concept": "cat"})
    wish, _ = read_requests({"concept": "dog"}, None, stack)
    assert "Near it" in wish.note and "cat" not in wish.note.split("drawn instead: ")[1].rstrip(".").split(", ")


def test_the_artists_own_list_is_read(tmp_path):
    file = tmp_path / "vocabulary.txt"
    file.write_text("Zog the Great, character\n")
    wish, _ = read_requests({"concept": "zog the great"}, None, Stack(), (file,))
    assert wish.concepts == ("Zog the Great",) and "(character)" in wish.note


OWN = WordList.load(WORDS)


def test_a_word_under_keep_that_the_checkpoints_own_list_lacks_is_told_before_the_run():
    wish, _ = read_requests({"concept": "banana", "keep": "cat, zebra, a red apple, ink style"}, WORDS, Stack())
    assert wish.notes == (
        "This model's word list does not name 'zebra', written under 'Keep': check the spelling. "
        "A word that the model does not know keeps nothing.",
    )


def test_a_word_under_keep_of_no_list_is_told_where_the_checkpoint_has_none():
    assert about_kept(["zebra", "Claude Monet", "my zebra"], GENERAL, bundled()) == ""
    found = about_kept(["zebra", "qwertzu", "asdfgh"], GENERAL, bundled())
    assert found.startswith("No word list names 'qwertzu' and 'asdfgh', written under 'Keep'")
    assert found.endswith("Words that the model does not know keep nothing.") and about_kept([], OWN, None) == ""
