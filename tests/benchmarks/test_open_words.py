"""The measurement of what unlisted words feel, on a text space of random words."""

import random
from dataclasses import replace

import pytest
import torch

from benchmarks import doc_results, open_words
from benchmarks.open_words import GOES, Bed, Case, SentenceReader, chosen, measured
from unlearn_core.method.text_reader import Tokens
from unlearn_core.recipe import OBJECT
from unlearn_core.words.vocabulary import belongs_to, bundled
from unlearn_core.words.word_list import WordList

WIDTH = 64


class RandomWords(SentenceReader):
    """One token a word, whatever stands around it."""

    def __init__(self):
        self.host, self._known = self, {}

    def token_ids(self, prompt):
        return [[hash(w) for w in ("[", *prompt.split(), "]")]]

    def token(self, word):
        if word not in self._known:
            seed = random.Random(word).getrandbits(40)
            self._known[word] = torch.randn(WIDTH, generator=torch.Generator().manual_seed(seed))
        return self._known[word]

    def read(self, prompts):
        rows = [torch.stack([self.token(w) for w in ("[", *p.split(), "]")]) for p in prompts]
        return Tokens(torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), tuple(map(len, rows)))


@pytest.fixture
def case(monkeypatch):
    few = {"open_words": 20, "near_candidates": 20, "near_words": 5, "target_prompts": 12, "listed_prompts": (1, 1)}
    monkeypatch.setattr(open_words, "OBJECT", replace(OBJECT, **few))
    reader, general = RandomWords(), WordList.load(None)
    matrix = torch.randn(50, WIDTH, generator=torch.Generator().manual_seed(0)).double()
    unlisted = ("mango", "banjo", "villa", "swan", "poppy", "coyote", "peach")
    return Case.make(Bed(reader, general, unlisted, bundled().without(unlisted), matrix), "banana")


def test_the_nouns_are_in_no_list_and_some_are_near_each_target():
    nouns = chosen(RandomWords(), general := WordList.load(None), bundled())
    assert len(nouns) == len(set(nouns)) == open_words.UNLISTED
    assert not any(belongs_to(n, g) for n in nouns for g in (*general.all_objects, *open_words.TARGETS))
    fruit = {t.text for t in bundled().category("banana")}
    assert len(fruit & {*nouns}) >= open_words.NEAR_EACH


def test_numbers_are_parts_of_the_targets_way_whatever_the_size_of_the_change(case):
    reader = case.bed.reader
    own, goal = reader.at_words([case.target, case.anchor])
    exact = torch.outer(case.bed.matrix @ (goal - own), own / own.norm() ** 2)
    found = measured(case, exact)
    assert found["goes"] == pytest.approx(1.0) and measured(case, 3 * exact)["near"] == pytest.approx(found["near"])
    nouns = reader.at_words(case.bed.unlisted)
    assert found["all"] == pytest.approx(GOES * float((nouns @ own / own.norm() ** 2).abs().mean()))
    assert found["near"] <= found["worst"]


def test_what_is_held_moves_less(case):
    free, held = (measured(case, open_words.WAYS[name](case)) for name in ("nothing", "the lists"))
    named = measured(case, open_words.named(case))
    assert held["listed"] < 0.5 * free["listed"] and named["all"] < 0.5 * held["all"]
    assert len(case.near) == 5 < len(case.asked) <= 20


def test_the_table_has_a_row_for_each_way():
    row = {"preserved": "nothing", "goes": 1.0, "near": 0.5, "worst": 0.6, "all": 0.2, "listed": 0.2, "plural": 0.25}
    table = doc_results.open_words({"sources": {"encoder": {"command": "x", "encoder": "y"}}, "rows": [row]})
    assert table[2] == "| nothing | 1.000 | 0.500 | 0.600 | 0.200 | 0.200 | 0.250 |"
