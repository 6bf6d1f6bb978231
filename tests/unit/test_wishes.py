"""Several concepts of one wish: one request each, none of them preserved or standing in for another."""

import random
import time

import pytest

from tests.tiny import WORDS, TinyHost
from tests.unit.runs import opened, stack_on
from unlearn_core import BadSetting, ForgetConfig, Stack, forget
from unlearn_core.method.anchor import by_text_alone, possible
from unlearn_core.method.preserved import PreservedPrompts
from unlearn_core.method.request import Request
from unlearn_core.method.wishes import read_requests
from unlearn_core.recipe import SMALL
from unlearn_core.words.compare import same_thing, share_a_word
from unlearn_core.words.prompts import Scene, fill, place
from unlearn_core.words.vocabulary import bundled
from unlearn_core.words.word_list import WordList

QUICK = {"quality": "quick"}


def requests(concept, stack=None, **values):
    return read_requests({"concept": concept, **QUICK, **values}, WORDS, stack or Stack())


def test_each_concept_knows_what_goes_next():
    wish, configs = requests("cat, dogs and a frog", seed=3)
    assert wish.concepts == ("cat", "dog", "frog")
    assert [c.going for c in configs] == [("dog", "frog"), ("frog",), ()]
    assert all(c.seed == 3 and not c.check for c in configs)


def test_what_goes_next_is_neither_preserved_nor_an_anchor():
    host, config = TinyHost(), ForgetConfig(concept="cat", going=("dog", "rabbit"), **QUICK)
    request = Request.read(host, config, Stack())
    assert not {"dog", "rabbit"} & {*request.rest.all_objects}
    prompts = PreservedPrompts((request.words, request.general), request.moving, 0).weights()
    assert not any(w in p.split() for p in prompts for w in ("cat", "dog", "rabbit")) and len(prompts) > 100
    assert not any(s.obj in ("dog", "rabbit") for s in (*request.targets, *request.held_out))
    with opened(host, config) as run:
        assert by_text_alone(run).name not in ("dog", "rabbit")


def test_what_goes_next_cannot_be_kept():
    with pytest.raises(BadSetting, match="'dog' is to be forgotten and kept"):
        requests("cat, dog", keep="a dog")


def test_all_is_refused_before_work():
    with pytest.raises(BadSetting, match="already forgotten 'frog'"):
        requests("cat, Frogs", stack_on(TinyHost(), {"concept": "frog"}))
    with pytest.raises(BadSetting, match="reads as a sentence"):
        requests("cat, a photo of a dog on a sofa")


def test_the_forms_of_a_word_give_the_same_delta():
    made = [
        forget(TinyHost(), requests(typed)[1][0], recipes=SMALL).delta for typed in ("pear", "Pears", "(a pear:1.2)")
    ]
    assert len({d.content_hash() for d in made}) == 1
    assert {d.info.concept for d in made} == {"pear"}


def test_force_takes_the_words_as_they_stand():
    for typed in ("a photo of a cat on a sofa", "1girl, solo, banana", "cat and knife"):
        with pytest.raises(BadSetting, match="Go on regardless"):
            requests(typed)
        assert requests(typed, force=True)[1][0].force


def test_keep_and_anchor_are_read_as_the_wish_is():
    (config,) = requests("banana", keep=["the cats and dogs", "(Frogs:1.2), mice"], anchor="a Pear.")[1]
    assert config.keep == ("cat", "dog", "frog", "mouse") and config.anchor == "pear"
    with pytest.raises(BadSetting, match="reads as a sentence"):
        requests("banana", keep="a photo of a cat on a sofa")
    with pytest.raises(BadSetting, match="name one concept, not 2"):
        requests("banana", anchor="cat and dog")


@pytest.mark.parametrize("keep", ["a banana", "Bananas", "cat, the banana", '"banana"'])
def test_what_is_to_go_cannot_be_kept_in_any_form(keep):
    with pytest.raises(BadSetting, match="to be forgotten and kept"):
        requests("banana", keep=keep)


@pytest.mark.parametrize(("first", "second"), [("gizmo", "gizmos"), ("mouse", "mice"), ("knives", "a knife")])
def test_another_form_of_what_has_gone_is_refused_and_one_wish_takes_it_once(first, second):
    with pytest.raises(BadSetting, match="already forgotten"):
        requests(second, stack_on(TinyHost(), {"concept": first}))
    assert len(requests(f"{first}, {second}")[1]) == 1


@pytest.mark.parametrize(
    ("anchor", "words"), [("hot dogs", "is to go as well"), ("tree frog", "The stack has forgotten 'frog'")]
)
def test_what_is_drawn_instead_shares_no_word_with_what_goes_or_has_gone(anchor, words):
    with pytest.raises(BadSetting, match=words):
        requests("cat, dog", stack_on(TinyHost(), {"concept": "frog"}), anchor=anchor)


@pytest.mark.parametrize("seed", range(12))
def test_nothing_that_goes_stands_in_or_is_preserved(seed):
    """Of any lists of concepts on any stack, in any form."""
    rng, host = random.Random(seed), TinyHost()
    names = rng.sample([*WordList.load(WORDS).all_objects, "hot dog", "gizmo", "red apple", "mouse"], 4)
    gone, target, *going = (f"{rng.choice(('a ', '', 'the '))}{n}{rng.choice(('', 's'))}" for n in names)
    config = ForgetConfig(concept=target, going=tuple(going), **QUICK)
    request = Request.read(host, config, stack_on(host, {"concept": gone}))
    offered = possible([*request.words.all_objects, *request.general.all_objects, *map(str.upper, names)], request)
    for moved in (target, gone, *going):
        assert not any(share_a_word(a, moved) for a in offered)
        prompts = PreservedPrompts((request.words, request.general), request.moving, 0).weights()
        assert not any(same_thing(word, moved) for p in prompts for word in p.split())


def test_a_style_is_kept_under_its_name_without_the_word():
    request = Request.read(TinyHost(), ForgetConfig(concept="banana", keep=("blob style",), **QUICK), Stack())
    lists = (request.words, request.general)
    kept, bare = (PreservedPrompts(lists, ("banana",), 0, (k,)).weights() for k in ("blob style", "blob"))
    assert not any("style style" in p for p in kept) and kept == bare
    scene = Scene("{an o} in {s} style", "cat", "ink")
    assert place(scene, "blob style", "style").prompt == "a cat in blob style"


def test_slots_in_a_concept_are_words():
    assert fill("{an o} in {s} style", "{an s}", "{o} ink") == "a {an s} in {o} ink style"
    assert fill("{an s} of {o}", "apple", "ink") == "an ink of apple"


@pytest.mark.parametrize(
    "concept",
    ["cat, dog", "<lora:x:1> gizmo", "(gizmo:1.2)", "cat; frog", "embedding:foo"] + ["（gizmo：1.2）", "cat｜frog"],
)
def test_the_python_api_refuses_what_is_no_name_and_says_what_to_call(concept):
    with pytest.raises(BadSetting, match="unlearn_core.read_requests"):
        forget(TinyHost(), ForgetConfig(concept=concept, **QUICK), recipes=SMALL)


@pytest.mark.parametrize(
    "concept", ["Goodbye, Mr. Chips", "link (zelda)", "Blade Runner: 2049", "salt and pepper shaker"]
)
def test_the_python_api_takes_names_as_they_are(concept):
    assert forget(TinyHost(), ForgetConfig(concept=concept, **QUICK), recipes=SMALL).delta.info.concept == concept


def test_the_python_api_knows_a_word_with_its_article():
    made = forget(TinyHost(), ForgetConfig.from_flat({"concept": "a banana", "check": "no"}), Stack(), recipes=SMALL)
    assert made.delta.info.concept == "banana" and made.delta.info.anchor != "banana"
    assert Request.read(TinyHost(), ForgetConfig(concept="the gizmo", **QUICK), Stack()).concept == "gizmo"


@pytest.mark.parametrize("field, label", [("anchor", "Draw instead"), ("keep", "Keep")])
@pytest.mark.parametrize("text", ["the", "style", "<lora:x:1>", "cat\u202e", 5])
def test_a_field_beside_the_wish_that_names_nothing_is_refused_under_its_own_name(field, label, text):
    with pytest.raises(BadSetting, match=f"^{label}: "):
        read_requests({"concept": "banana", field: text}, WORDS, Stack())


def test_what_the_stack_has_forgotten_cannot_be_kept():
    stack = stack_on(TinyHost(), {"concept": "frog"})
    with pytest.raises(BadSetting, match="The stack has forgotten 'frog', so it cannot be kept"):
        read_requests({"concept": "banana", "keep": "cat, frogs"}, WORDS, stack)


def test_a_name_that_is_too_long_is_refused_as_the_wish():
    with pytest.raises(BadSetting, match="Forget: at most 120 characters for one concept, not 130"):
        read_requests({"concept": "cat, " + "x" * 130}, WORDS, Stack())


def general(concept, **values):
    """On a checkpoint without a list of its own."""
    return read_requests({"concept": concept, **QUICK, **values}, None, Stack())


@pytest.mark.parametrize(
    "names",
    [
        "wolf, coyote, jackal, hyena, dingo",
        "Superman, Batman, Spider-Man, Hulk, Iron Man",
        "dragon, elf, wizard, ghost, orc",
    ],
)
def test_a_list_of_what_the_vocabulary_knows_is_no_prompt(names):
    assert len(general(names)[0].concepts) == len(names.split(", ")) == len(general("cat", keep=names)[1][0].keep)
    with pytest.raises(BadSetting, match="reads as a prompt"):
        general("1girl, solo, long hair, sword, castle")


@pytest.mark.parametrize(
    "concept, anchor, words",
    [
        ("car", "automobile", "another word for 'car'"),
        ("cat", "Monet", "'Monet' is a style and 'cat' a thing"),
        ("Monet", "dog", "'dog' is a thing and 'Monet' a style"),
        ("cat", "none", "Leave this field empty"),
        ("cat", "Auto", "Leave this field empty"),
    ],
)
def test_an_anchor_that_cannot_work_is_questioned(concept, anchor, words):
    with pytest.raises(BadSetting, match=f"Draw instead: .*{words}"):
        general(concept, anchor=anchor)
    assert general(concept, anchor=anchor, force=True)[1][0].anchor
    assert general("cat", anchor="dog")[1][0].anchor == "dog" and general("Monet", anchor="van gogh")[1][0].anchor


def test_an_artists_surname_is_questioned_and_the_answers_work():
    for name, whole in (("Rutkowski", "Greg Rutkowski"), ("ghibli", "Studio Ghibli")):
        with pytest.raises(BadSetting, match=f"may be the style of {whole}"):
            general(name)
        assert general(f'"{name}"')[1][0].concept == name
        assert "read as a style" in general(f"{name} style")[0].note and "read as a style" in general(whole)[0].note
    assert general("Rutkowski", kind="object")[0].concepts == ("Rutkowski",), "said by the artist"


@pytest.mark.parametrize("typed", ["monet-style", "in a Monet-style", "watercolour", "watercolour style"])
def test_a_style_is_one_however_it_is_spelled(typed):
    assert "is read as a style" in general(typed)[0].note


def test_a_kept_word_with_a_word_of_the_target_is_told():
    assert "'hot dog', written under 'Keep', has a word of what is to go" in general("dog", keep="hot dog")[0].note
    assert "has a word of" not in general("dog", keep="wolf")[0].note


def test_a_field_beside_the_wish_is_named_in_its_questions():
    for field, label in (("keep", "Keep"), ("anchor", "Draw instead")):
        with pytest.raises(BadSetting, match=f"^{label}: .*reads as a sentence"):
            general("cat", **{field: "a dog with a hat"})
    with pytest.raises(BadSetting, match="^Keep: 'dog, but not wolf' says more than what belongs here"):
        general("cat", keep="dog, but not wolf")
    assert general("cat", keep="keep the dogs")[1][0].keep == ("dog",)


def test_a_group_of_the_checkpoints_own_list_is_told():
    groups = [g for g in WordList.load(WORDS).objects if g]
    assert f"'{groups[0]}' is a group: " in requests(groups[0])[0].note


def test_twenty_artists_are_read_while_one_waits():
    names = [t.text for t in bundled().terms if t.kind == "artist"][:20]
    begin = time.monotonic()
    assert len(general(", ".join(names))[0].concepts) == 20
    assert time.monotonic() - begin < 10
