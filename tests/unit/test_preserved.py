"""Prompts of everything that is to stay: how many of each word, what they weigh, and what is left out."""

from dataclasses import replace

import pytest
import torch

from tests.tiny import WORDS, TinyHost
from tests.unit.runs import opened, stack_on
from unlearn_core import ForgetConfig, Stack
from unlearn_core.host import Conditioning
from unlearn_core.method.preserved import PreservedPrompts
from unlearn_core.method.text_reader import TextReader
from unlearn_core.method.token_moments import Moment, moment_of, second_moment
from unlearn_core.recipe import OBJECT
from unlearn_core.words.prompts import names
from unlearn_core.words.word_list import WordList

GENERAL, OWN = WordList.load(None), WordList.load(WORDS)


def weights(lists, moving=("banana",), keep=(), **changes):
    return PreservedPrompts(lists, moving, 0, keep, replace(OBJECT, **changes)).weights()


def test_each_word_of_a_short_list_is_held_in_more_prompts():
    few, many = OBJECT.listed_prompts
    listed = OBJECT.listed_total
    held = [*GENERAL.all_objects, *GENERAL.styles]
    assert listed // len(held) < few < many < listed // len([*OWN.all_objects, *OWN.styles])
    alone, both = weights([GENERAL]), weights([OWN, GENERAL])
    assert few <= sum(names(t, "owl") for t in alone) < many
    assert sum(names(t, "bus") for t in both) >= many
    assert set(alone.values()) == {1.0} and min(both.values()) == few / many
    assert all("" in found and not any(names(t, "banana") for t in found) for found in (alone, both))


def test_the_artists_own_words_have_more_prompts_of_full_weight():
    found = weights([OWN, GENERAL], keep=("owl",))
    assert sum(names(t, "owl") and w == 1.0 for t, w in found.items()) >= OBJECT.kept_prompts
    fewer = weights([OWN, GENERAL], keep=("owl",), kept_prompts=8)
    assert 8 <= sum(names(t, "owl") and w == 1.0 for t, w in fewer.items()) < OBJECT.kept_prompts


def test_each_word_weighs_the_same():
    """Two words of one list, many of another: their tokens are one-hot, so the second moment shows the weights."""

    class Words(TinyHost):
        def encode(self, prompts):
            rows = [[float(w in p.split()) for w in ("cat", "dog", "owl", "bee")] for p in prompts]
            return Conditioning(torch.tensor(rows)[:, None])

    short, long = (
        WordList({"": words}, (), ("{o}",), tuple(f"{{o}} {i}" for i in range(20)), ("{s}",), ("",))
        for words in (("cat", "dog"), ("owl", "bee", *(f"w{i}" for i in range(200))))
    )
    cat, dog, owl, bee = PreservedPrompts([short, long], [], 0).moment(TextReader(Words())).value.diagonal().tolist()
    assert cat == pytest.approx(dog) and dog == pytest.approx(owl) and owl == pytest.approx(bee) and cat > 0


@pytest.mark.parametrize("concept", ["a banana", "Bananas", "(banana:1.3)"])
def test_prompts_of_the_target_are_not_held(concept):
    held = weights([OWN, GENERAL], [concept])
    assert not any(names(t, "banana") for t in held) and any(names(t, "pear") for t in held)
    assert held.keys() == weights([OWN, GENERAL], ["banana"]).keys()


def test_on_a_stack_the_own_styles_that_stay_are_held_on_unlisted_things_too():
    """Else a style that goes from these is mixed up there with one that stays: "flat penguin" came out glossy."""
    moving = ("ink", "banana", "owl")
    first = weights([OWN, GENERAL], moving)
    stacked = PreservedPrompts([OWN, GENERAL], moving, 0, unlisted=True).weights()
    more = {p: w for p, w in stacked.items() if p not in first}
    unlisted = set(GENERAL.all_objects) - {*OWN.all_objects, *moving}
    staying = [s for s in OWN.styles if s != "ink"]
    assert len(staying) > 1 and set(more.values()) == {OBJECT.unlisted_styles_weight}
    for style in staying:
        mine = [p for p in more if names(p, style)]
        assert len(mine) == OBJECT.unlisted_styles and all(any(names(p, thing) for thing in unlisted) for p in mine)
    assert not any(names(p, m) for p in stacked for m in moving), "what goes or has gone is not held"
    alone = PreservedPrompts([GENERAL, GENERAL], moving, 0)
    assert replace(alone, unlisted=True).weights() == alone.weights(), "no thing is unlisted without a list of its own"


@pytest.mark.parametrize("concept", ["cat", "a cat", "Cats"])
def test_on_a_stack_unlisted_things_of_the_targets_category_are_held_in_own_words(concept):
    """Else they go with it: after "guitar" the demo model drew rabbits for violins."""
    both = PreservedPrompts([OWN, GENERAL], (concept, "banana"), 0)
    first, stacked = both.weights(), replace(both, unlisted=True).weights()
    near = set(GENERAL.members("animal")) - {*OWN.all_objects}
    held = {p: w for p, w in stacked.items() if p not in first}
    each = OBJECT.listed_prompts[0] / OBJECT.unlisted_near  # together as much as a word of a list
    assert len(near) > 10 and {*held.values()} == {OBJECT.unlisted_styles_weight, each}
    for thing in near:
        mine = [p for p, w in held.items() if names(p, thing) and w == each]
        assert OBJECT.unlisted_near - 2 <= len(mine) <= OBJECT.unlisted_near, "few of them are held for a style"
        assert any(names(p, style) for p in mine for style in OWN.styles)
    fruit = set(GENERAL.members("fruit")) - {*OWN.all_objects}
    assert not any(names(p, thing) for p, w in held.items() if w == each for thing in fruit), "these do not go with it"
    assert not any(names(p, "cat") for p in stacked)


def test_a_run_on_a_stack_holds_them(monkeypatch):
    monkeypatch.setattr(PreservedPrompts, "moment", lambda prompts, *_: prompts.weights())
    below = stack_on(TinyHost(), {"concept": "frog", "anchor": "cat"})
    held = []
    for stack in (Stack(), below):
        with opened(TinyHost(), ForgetConfig(concept="banana", quality="quick"), stack) as run:
            held.append({*run.preserved(run.readers[0]).values()})
    assert OBJECT.unlisted_styles_weight not in held[0] and OBJECT.unlisted_styles_weight in held[1]


def test_a_part_of_the_target_is_held():
    assert any(names(t, "dog") for t in weights([OWN, GENERAL], ["hot dog"]))


def test_second_moment_by_hand():
    tokens = torch.tensor([[[1.0, 0.0], [1.0, 2.0]]])
    assert second_moment(tokens).tolist() == [[1.0, 1.0], [1.0, 2.0]]


def test_moments_of_two_lists_are_weighed_by_their_prompts():
    one, other = Moment.of(torch.tensor([[[1.0, 0.0]]])), Moment.of(torch.tensor([[[0.0, 2.0]]] * 3))
    both = one + other
    assert both.value.tolist() == [[0.25, 0.0], [0.0, 3.0]] and both.prompts == 4


def test_a_moment_does_not_depend_on_how_much_is_in_memory(monkeypatch):
    host, texts, parts = TinyHost(), [f"a banana {w}" for w in ("red", "on a table", "in ink style", "at night")], []
    tokens = TextReader(host).read(texts).values
    monkeypatch.setattr("unlearn_core.method.token_moments.PROMPTS_AT_ONCE", 3)
    monkeypatch.setattr("unlearn_core.method.token_moments.TOKENS_AT_ONCE", 7)
    assert torch.allclose(
        moment_of(TextReader(host), texts, pulse=lambda: parts.append(1)).value, second_moment(tokens)
    )
    assert len(parts) == 2
    shares = [1.0, 0.5, 0.25, 0.1]
    weighted = sum(w * second_moment(t) for w, t in zip(shares, tokens, strict=True)) / sum(shares)
    assert torch.allclose(moment_of(TextReader(host), texts, shares).value, weighted)
