"""What the model does not know is questioned before any work, and only that."""

import random
import zlib
from dataclasses import replace

import pytest
import torch

from tests.small import stack_of
from tests.tiny import WIDTH, WORDS, TinyHost
from tests.unit.runs import assert_same, state_of
from tests.unit.runs import run as forgotten
from unlearn_core import BadSetting, ForgetConfig, Stack, TrainingFailed
from unlearn_core.delta.removal import without
from unlearn_core.host import Conditioning
from unlearn_core.method import retrain as retraining
from unlearn_core.method.known_words import (
    TOLD_APART,
    nonsense,
    pieces,
    spelled_out,
    told_apart,
    unknown_words,
)
from unlearn_core.method.retrain import Retraining, retrain
from unlearn_core.recipe import OBJECT
from unlearn_core.words.word_list import WordList

LIST = WordList.load(WORDS)
LENGTH = 40
GLANCE = OBJECT.glance_steps + 2
"""Passes of a quick run's last look: the target's way, the anchor's and what has become of it."""
ENTRIES = {"a", "photo", "of", "the", "picture", "style", "in", "banana", "wombat"}
FINETUNED = ("mikuchan",)
"""A word of several pieces that means something all the same."""


class SpellingHost(TinyHost):
    """A text encoder that reads from left to right, has few entries, and spells all other words byte by byte.

    To the network the pieces say next to nothing, but for those of a character that it was fine-tuned on.
    """

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.calls = 0

    def _sentence(self, prompt):
        vectors = [("start", 1.0)]
        for word in prompt.split():
            strong = any(f in word for f in FINETUNED)
            parts = [word] if word in ENTRIES else [*word.encode()]
            vectors += [(part, 3.0 if word in ENTRIES or strong else 0.2) for part in parts]
        vectors = (vectors + [("end", 1.0)] * LENGTH)[:LENGTH]
        return torch.stack([self.vector(part) * size for part, size in vectors])

    def vector(self, part):
        return torch.randn(WIDTH, generator=torch.Generator().manual_seed(zlib.crc32(str(part).encode())))

    def denoise(self, x, sigma, conditioning):
        self.calls += 1
        return super().denoise(x, sigma, conditioning)


def asked(concept, **settings):
    return forgotten(SpellingHost(), ForgetConfig(concept=concept, quality="quick", **settings))


def test_pieces_are_counted_as_the_encoder_reads():
    host = SpellingHost()
    assert [pieces(host, w) for w in ("banana", "hjkl", "qwertz", "mikuchan")] == [1, 4, 6, 8]


@pytest.mark.parametrize("word", ["qwertz", "кошка", "🍌", "猫", "mikuchan", "foo-banana", "qwertz's"])
def test_words_without_an_entry_are_spelled_out(word):
    assert spelled_out(SpellingHost(), word)


@pytest.mark.parametrize("word", ["banana", "the", "8", "&", "-", "banana-wombat", "(banana)", "wombat:", "1banana"])
def test_words_with_an_entry_and_numbers_are_not(word):
    assert not spelled_out(SpellingHost(), word)


def test_an_encoder_that_reads_both_ways_is_no_reason_to_question():
    class BothWays(SpellingHost):
        def encode(self, prompts):
            tokens = super().encode(prompts).tokens
            return Conditioning(tokens + tokens.mean(1, keepdim=True))

    assert not spelled_out(BothWays(), "qwertz")


def test_what_says_no_more_than_random_letters_is_unknown():
    host = SpellingHost()
    with host.session(Stack()):
        assert unknown_words(host, ["qwertz", "banana", "mikuchan", "wombat", "blue qwertz"], "object", LIST) == (
            "qwertz",
            "blue qwertz",
        )
        far = told_apart(host, ["hjklq", "mikuchan"], "object", LIST)
    assert far["hjklq"] < TOLD_APART < far["mikuchan"]


@pytest.mark.parametrize("concept", ["qwertz", "🍌", "кошка", "style of qwertz", "hjklq wxyz"])
def test_an_unknown_word_is_questioned_and_the_model_is_as_it_was(concept):
    host = SpellingHost()
    before, name = state_of(host), concept.removeprefix("style of ")
    with pytest.raises(BadSetting, match=rf"does not know '{name}'.*Go on regardless"):
        forgotten(host, ForgetConfig(concept=concept, quality="quick"))
    assert_same(before, state_of(host))


def test_it_is_asked_before_a_picture_is_drawn():
    host, seen = SpellingHost(), set()
    with pytest.raises(BadSetting, match="does not know 'qwertz'"):
        forgotten(host, ForgetConfig(concept="qwertz"), progress=lambda r: seen.add(r.phase))
    assert seen == {"sampling"}, "the first phase of the plan, not begun"
    assert host.calls == 1 + 7, "what a row costs in memory; six words of random letters and the word itself"


def test_it_can_be_forced():
    assert asked("qwertz", force=True).delta.info.concept == "qwertz"
    assert "force" not in asked("qwertz", force=True).delta.info.config


def test_what_goes_next_and_what_is_drawn_instead_are_asked_about_at_once():
    with pytest.raises(BadSetting, match="does not know 'qwertz' and 'hjklq'"):
        asked("banana", going=("qwertz", "cat"), anchor="hjklq")


@pytest.mark.parametrize("concept", ["banana", "wombat", "mikuchan", "elephant", "ink", "fruit"])
def test_known_words_are_not_questioned(concept):
    """Those of the list, those with an entry, and what only the model knows."""
    assert asked(concept, anchor="pear" if concept != "ink" else "blob").delta.info.concept == concept


def test_known_words_cost_no_pass_and_change_no_bit():
    host = SpellingHost()
    free = forgotten(host, ForgetConfig(concept="wombat", quality="quick", anchor="pear"))
    assert host.calls == 1 + GLANCE, "what a row costs in memory"
    forced = asked("wombat", anchor="pear", force=True)
    assert free.delta.content_hash() == forced.delta.content_hash()
    assert (
        asked("mikuchan", anchor="pear").delta.content_hash()
        == asked("mikuchan", anchor="pear", force=True).delta.content_hash()
    )


def test_the_teacher_is_asked_not_the_student():
    host = SpellingHost()
    first = asked("mikuchan", anchor="pear").delta
    made = forgotten(host, ForgetConfig(concept="wombat", quality="quick", anchor="apple"), Stack().with_delta(first))
    assert made.delta.info.concept == "wombat"


def test_a_delta_made_anew_is_not_questioned():
    host = SpellingHost()
    first = asked("banana", anchor="pear").delta.named("one")
    second = forgotten(
        host, ForgetConfig(concept="qwertz", quality="quick", force=True), Stack().with_delta(first)
    ).delta.named("two")
    again = retrain(host, without(stack_of((first, 1.0), (second, 1.0)), "one"))
    assert again.concepts() == ("qwertz",)


def test_a_delta_made_anew_that_harms_too_much_is_kept_only_when_forced(monkeypatch):
    host = SpellingHost()
    first, second = (asked(w, anchor="pear").delta.named(w) for w in ("banana", "cat"))
    removal = without(stack_of((first, 1.0), (second, 1.0)), "banana")
    monkeypatch.setattr(retraining, "harm_in", lambda *_: "It harms.")
    with pytest.raises(TrainingFailed, match="'cat' was not made anew. It harms."):
        retrain(host, removal)
    assert retrain(host, removal, Retraining(force=True)).concepts() == ("cat",)


def test_nonsense_is_as_long_as_the_word_and_of_its_alphabet():
    made = [nonsense(random.Random(0), w) for w in ("ab", "hjklq", "x" * 30, "кошка", "猫", "🍌")]
    assert [len(m) for m in made] == [4, 5, 10, 5, 4, 4]
    assert [m.isascii() for m in made] == [True, True, True, False, True, True] and not made[3].isascii()


def test_force_is_no_part_of_what_decides():
    config = ForgetConfig(concept="banana")
    assert replace(config, force=True).deciding() == config.deciding()
