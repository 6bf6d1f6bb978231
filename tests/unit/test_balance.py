"""One delta in place of a stack: its concepts, what is led further, what is refused, and the host as it was."""

from dataclasses import replace

import pytest
import torch

from tests.tiny import TinyHost
from tests.unit.runs import assert_same, config, run, stack_on, state_of
from unlearn_core import BadDelta, BadSetting, Cancelled, ForgetConfig, Stack, TrainingFailed, UnlearnError, load, save
from unlearn_core.delta.merge import combine_cat
from unlearn_core.evaluate.evaluator import Evaluator
from unlearn_core.method.balance import Balancing, asked_by, balance, targets_of
from unlearn_core.recipe import OBJECT, SMALL
from unlearn_core.words.word_list import WordList

WORDS = WordList.load(None)
BANANA = {"concept": "banana", "anchor": "pear", "prompts": (("a banana", "a pear"), ("two bananas", "two pears"))}
FROG = {
    "concept": "frog",
    "anchor": "cat",
    "prompts": (("a frog", "a cat"), ("a frog in ink style", "a cat in ink style")),
}


@pytest.fixture
def pair(monkeypatch):
    """A host and a stack of two deltas that were made on it."""
    monkeypatch.setattr(Evaluator, "still_generated", lambda *_: False)
    monkeypatch.setattr(Evaluator, "gone", lambda *_: True)
    host = TinyHost()
    first = run(host, config(closed_form=True)).delta
    below = Stack().with_delta(first)
    return host, below.with_delta(run(host, config(closed_form=True, concept="frog", anchor="cat"), below).delta)


@pytest.fixture
def seen(monkeypatch):
    """How many pictures show each of the two in turn: the list that the fixture is, the last one for good."""
    found = [[0, 0]]
    monkeypatch.setattr(Balancing, "looked", lambda self, number: found[min(number, len(found) - 1)])
    return found


def made(host, stack, **changes):
    recipes = {kind: replace(recipe, **changes) for kind, recipe in SMALL.items()}
    return balance(host, stack, recipes=recipes)


def test_one_delta_takes_the_place_of_all(pair, seen, tmp_path):
    host, stack = pair
    before = state_of(host)
    result = made(host, stack)
    assert_same(before, state_of(host))
    assert result.reaches == {"banana": OBJECT.first_reach, "frog": OBJECT.first_reach} and not result.seen
    info = result.delta.info
    assert info.concepts == ("banana", "frog") and info.config == {"merge": "balanced"}
    assert info.prompts == stack.prompts()
    ends = {name.rsplit("attn2.", 1)[1] for name in result.delta.factors}
    assert ends == {"to_k", "to_v"}, "no layer but those that read text"
    save(result.delta, tmp_path / "both.safetensors")
    with host.session(Stack().with_delta(load(tmp_path / "both.safetensors"))):
        pass
    with pytest.raises(BadSetting, match="already forgotten 'frog'"):
        run(host, config(concept="frog"), Stack().with_delta(result.delta))


def test_it_is_always_the_same(pair, seen):
    host, stack = pair
    assert made(host, stack).delta.content_hash() == made(host, stack).delta.content_hash()


def test_what_is_seen_is_led_further_until_it_is_not(pair, seen):
    host, stack = pair
    seen[:] = [[2, 0], [1, 0], [0, 0]]
    further = made(host, stack)
    assert further.reaches == pytest.approx(
        {"banana": OBJECT.first_reach + 3 * OBJECT.further_reach, "frog": OBJECT.first_reach}
    )
    seen[:] = [[0, 0]]
    plain = made(host, stack)
    assert further.moved[0] == plain.moved[0] > 0 and further.moved[1] > plain.moved[1] > 0


def test_what_is_seen_to_the_end_is_told(pair, seen):
    host, stack = pair
    seen[:] = [[0, 1]]
    result = made(host, stack)
    assert result.seen == ("frog",)
    rounds = SMALL["object"].reach_rounds
    assert result.reaches["frog"] == pytest.approx(OBJECT.first_reach + (rounds - 1) * OBJECT.further_reach), (
        "as it was looked at"
    )


def test_pictures_of_every_target_are_drawn_and_read(pair, monkeypatch):
    host, stack = pair
    asked = []
    encode = host.encode
    monkeypatch.setattr(host, "encode", lambda prompts: asked.append(list(prompts)) or encode(prompts))
    looked, found = Balancing.looked, []
    monkeypatch.setattr(
        Balancing, "looked", lambda self, n: asked.clear() or found.append(looked(self, n)) or found[-1]
    )
    made(host, stack, reach_rounds=1)
    assert len(found[0]) == 2 and all(0 <= count <= 2 for count in found[0])
    assert sum("banana" in p for p in asked[0]) == sum("frog" in p for p in asked[0]) == 2
    assert sum("pear" in p for p in asked[1]) == sum("cat" in p for p in asked[1]) == 2, "and as what they are led to"


def test_a_merge_and_what_was_mapped_on_are_told_apart():
    stack = stack_on(TinyHost(), BANANA, FROG)
    first, second = targets_of(stack, WORDS)
    assert (first.concept, first.anchor, first.pairs) == ("banana", "pear", BANANA["prompts"])
    assert (second.concept, second.anchor, second.pairs) == ("frog", "cat", FROG["prompts"])
    merged = targets_of(Stack().with_delta(combine_cat(stack)), WORDS)
    assert [(t.concept, t.anchor, t.pairs) for t in merged] == [(t.concept, "", t.pairs) for t in (first, second)]
    # the frogs' cat goes too: the later delta maps both onto the dog
    cat = {"concept": "cat", "anchor": "dog", "prompts": (("a cat", "a dog"), ("a frog", "a dog"))}
    *_, frog, last = targets_of(stack_on(TinyHost(), BANANA, FROG, cat), WORDS)
    assert (frog.concept, frog.anchor, last.concept) == ("frog", "dog", "cat")
    assert dict(frog.pairs)["a frog"] == "a dog"


def test_a_stack_of_one_or_of_another_model_is_refused(pair):
    host, stack = pair
    for few in (Stack(), Stack(stack.entries[:1]), Stack((stack.entries[0], replace(stack.entries[1], strength=0.0)))):
        with pytest.raises(BadSetting, match="at least two"):
            made(host, few)
    with pytest.raises(BadDelta):
        made(host, stack_on(host, BANANA | {"base_fingerprint": "f" * 16}, FROG | {"base_fingerprint": "f" * 16}))


def test_what_would_be_lost_is_refused(pair):
    host, stack = pair
    first, second = stack.entries
    with pytest.raises(BadSetting, match="'frog' has the strength 0.5"):
        made(host, Stack((first, replace(second, strength=0.5))))
    silent = replace(second.delta, info=replace(second.delta.info, prompts=()))
    with pytest.raises(BadSetting, match="which prompts 'frog'"):
        made(host, Stack((first, replace(second, delta=silent))))
    before = state_of(host)
    deep = run(host, config(concept="cat", anchor="dog", layers="attention"), stack).delta
    with pytest.raises(BadSetting, match="'cat' was trained"):
        made(host, stack.with_delta(deep))
    assert_same(before, state_of(host))


def test_without_layers_that_read_text_nothing_is_solved(pair, monkeypatch):
    host, stack = pair
    monkeypatch.setattr("unlearn_core.method.balance.Reach.make", lambda *_: None)
    before = state_of(host)
    with pytest.raises(UnlearnError, match="whole stack"):
        made(host, stack)
    assert_same(before, state_of(host))


def test_pictures_that_are_no_numbers_end_it(pair, monkeypatch):
    host, stack = pair
    monkeypatch.setattr(
        "unlearn_core.sampling.Sampler.draw", lambda self, text, *_: torch.full((len(text), 1), torch.nan)
    )
    with pytest.raises(TrainingFailed, match="not finite"):
        made(host, stack)


def test_a_stop_ends_it_and_leaves_the_host_as_it_was(pair):
    host, stack = pair
    before, fractions = state_of(host), []

    def stop(report):
        fractions.append(report.fraction)
        return report.done > 0

    with pytest.raises(Cancelled):
        balance(host, stack, stop, recipes=SMALL)
    assert_same(before, state_of(host))
    assert fractions == sorted(fractions)


def test_what_the_requests_were_told_holds_for_all():
    """Words under Keep are held, and pictures are drawn as all of them were drawn."""
    told = {"keep": ["violin", "frog", 5], "sampling_steps": 30, "guidance": 7.0}
    other = {"keep": ["lamp"], "sampling_steps": 30, "guidance": 5.0}
    asked = asked_by(stack_on(TinyHost(), {**BANANA, "config": told}, {**FROG, "config": other}))
    assert (asked.concept, asked.going, asked.keep) == ("banana", ("frog",), ("violin", "lamp"))
    assert asked.sampling_steps == 30 and asked.guidance == ForgetConfig.guidance, "they do not agree"


@pytest.mark.parametrize("told", [{"sampling_steps": -5}, {"keep": "x"}, {"guidance": True}, {"guidance": []}])
def test_a_file_may_say_anything_of_what_it_was_told(told):
    asked = asked_by(stack_on(TinyHost(), {**BANANA, "config": told}, {**FROG, "config": told}))
    assert asked.keep == () and asked.sampling_steps == ForgetConfig.sampling_steps
