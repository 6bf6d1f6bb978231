"""What is kept of encoded prompts: those asked for last, and nothing of a long list."""

import pytest
import torch

from unlearn_core import prompt_cache
from unlearn_core.host import Conditioning
from unlearn_core.prompt_cache import PromptCache

CPU = torch.device("cpu")


class Reader:
    """A text encoder whose row for a prompt is its length and its first letter; remembers what it was asked."""

    def __init__(self):
        self.cache, self.read = PromptCache(), []

    def __call__(self, *prompts):
        return self.cache.encode(prompts, self._read, CPU)

    def _read(self, prompts):
        self.read.append(list(prompts))
        return Conditioning(rows(prompts), {"pooled": rows(prompts)[:, 0]})


def rows(prompts):
    return torch.tensor([[[float(len(p)), float(ord(p[0]))]] for p in prompts])


@pytest.fixture
def reader():
    return Reader()


def test_each_prompt_is_read_once_and_rows_come_in_the_order_asked_for(reader):
    asked = ["tiger", "lion", "tiger"]
    found = reader(*asked)
    assert torch.equal(found.tokens, rows(asked)) and torch.equal(found.extras["pooled"], rows(asked)[:, 0])
    assert torch.equal(reader("lion").tokens, rows(["lion"])) and reader.read == [["tiger", "lion"]]


def test_prompts_asked_for_last_are_kept(reader, monkeypatch):
    monkeypatch.setattr(prompt_cache, "MOST", 2)
    reader("one", "two", "three")
    assert torch.equal(reader("three", "two").tokens, rows(["three", "two"]))
    assert reader.read == [["one", "two", "three"]]
    assert torch.equal(reader("one", "two").tokens, rows(["one", "two"]))
    reader("three")
    assert reader.read[1:] == [["one"], ["three"]]


def test_a_long_list_is_read_and_not_kept(reader, monkeypatch):
    monkeypatch.setattr(prompt_cache, "LIST", 2)
    reader("lion")
    asked = ["tiger", "lion", "bear", "wolf", "tiger"]
    assert torch.equal(reader(*asked).tokens, rows(asked))
    assert reader.read == [["lion"], ["tiger", "bear", "wolf"]]
    reader("lion")
    reader("bear", "wolf")
    assert reader.read[2:] == [["bear", "wolf"]]


def test_an_encoder_reads_few_prompts_at_once(reader):
    asked = [f"{i} things" for i in range(20)]
    assert torch.equal(reader(*asked).tokens, rows(asked))
    assert [len(part) for part in reader.read] == [8, 8, 4]
