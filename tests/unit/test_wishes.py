"""Several concepts of one wish: one request each, none of them preserved or standing in for another."""

import pytest

from tests.tiny import WORDS, TinyHost
from tests.unit.runs import opened, stack_on
from unlearn_core import BadSetting, ForgetConfig, Stack, forget
from unlearn_core.method.anchor import by_text_alone
from unlearn_core.method.preserved import PreservedPrompts
from unlearn_core.method.request import Request
from unlearn_core.method.wishes import read_requests
from unlearn_core.recipe import SMALL

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
