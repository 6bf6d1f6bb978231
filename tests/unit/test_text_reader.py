"""Prompts as layers read them: of several lengths, inside the denoiser, and aligned by the numbers of their tokens."""

import pytest
import torch

from tests.tiny import WIDTH, TinyHost
from tests.unit.test_text_search import Joint
from unlearn_core.host import Conditioning
from unlearn_core.method.counterparts import by_numbers, counterparts, ends_of, fitting, without_padding
from unlearn_core.method.text_reader import LayerReader, TextReader, without_zeros
from unlearn_core.method.text_search import find_text_groups
from unlearn_core.method.token_moments import moment_of


class Ragged(TinyHost):
    """Gives as many tokens as a prompt has words, and tells their numbers; a template of two words is left out."""

    def encode(self, prompts):
        words = [p.split() or ["nothing"] for p in prompts]
        return Conditioning.cat([Conditioning(self._sentence(" ".join(w))[None, : len(w)]) for w in words])

    def denoise(self, x, sigma, conditioning):
        parts = conditioning.by_length()
        done = [super(Ragged, self).denoise(x[rows], sigma[rows], part) for rows, part in parts]
        order = torch.tensor([row for rows, _ in parts for row in rows])
        return torch.cat(done)[order.argsort()]

    def token_ids(self, prompt):
        return [[1, 2, *(100 + len(w) * 7 + ord(w[0]) for w in prompt.split())]]


def joint(host):
    torch.manual_seed(1)
    host.backbone = Joint(refiner=True).requires_grad_(False)
    return host


def test_rows_of_several_lengths_are_filled_up_and_taken_apart():
    mask = [torch.ones(1, n) for n in (2, 3)]
    one, two = (Conditioning(torch.full((1, n, 4), float(n)), {"mask": m}) for n, m in zip((2, 3), mask, strict=True))
    both = Conditioning.cat([one, two, one])
    assert both.tokens.shape == (3, 3, 4) and both.counts.tolist() == [2, 3, 2]
    assert both.tokens[0, 2].abs().sum() == 0 and both.extras["mask"][0].tolist() == [1.0, 1.0, 0.0]
    (rows, short), (other, long) = both.by_length()
    assert (rows, other) == ([0, 2], [1]) and short.tokens.shape == (2, 2, 4) and torch.equal(long.tokens, two.tokens)
    assert torch.equal(short.extras["mask"], torch.ones(2, 2)) and short.counts is None
    assert Conditioning.cat([two, two]).counts is None, "nothing changes where all are equally long"
    again = Conditioning.cat([both[[1, 0]], one])
    assert again.counts.tolist() == [3, 2, 2]


def test_what_has_a_length_of_its_own_beside_the_tokens_keeps_it():
    def text(tokens, ids):
        return Conditioning(
            torch.ones(1, tokens, 4), {"ids": torch.arange(1, ids + 1)[None], "pooled": torch.ones(1, 8)}
        )

    one, two, three = text(2, 2), text(2, 3), text(3, 3)
    assert not any(k.startswith("length") for k in Conditioning.cat([one, three]).extras), "as many as there are tokens"
    both = Conditioning.cat([Conditioning.cat([one, three]), two, one])
    assert len(both) == 4 and both.extras["ids"].shape == (4, 3)
    parts = both[[3, 2, 1, 0]].by_length()
    assert [rows for rows, _ in parts] == [[0, 3], [1], [2]]
    for (_, part), alone in zip(parts, (one, two, three), strict=True):
        assert (
            torch.equal(part.extras["ids"][:1], alone.extras["ids"]) and part.tokens.shape[1:] == alone.tokens.shape[1:]
        )
        assert set(part.extras) == {"ids", "pooled"} and part.counts is None


def test_a_layer_inside_the_denoiser_is_read_by_passes_that_end_there():
    host = joint(Ragged())
    (group,) = find_text_groups(host, host.backbone)
    assert group.paths == ("txt_in",)
    prompts = ["a cat", "a red dog on a table", "two birds"]
    inside, outside = LayerReader(host, host.backbone, group).read(prompts), TextReader(host).read(prompts)
    assert inside.counts == outside.counts == (2, 6, 2)
    assert torch.allclose(inside.values, outside.values)
    assert not any(m._forward_pre_hooks for m in host.backbone.modules())


class OneByOne(Ragged):
    """Splits its passes, as a host does whose memory holds few rows."""

    def denoise(self, x, sigma, conditioning):
        rows = ([i] for i in range(len(x)))
        return torch.cat([super(OneByOne, self).denoise(x[r], sigma[r], conditioning[r]) for r in rows])


def test_a_pass_that_the_host_splits_is_read_whole():
    prompts = ["a cat", "two birds", "a red dog on a table"]
    split, whole = (joint(host) for host in (OneByOne(), Ragged()))
    (group,) = find_text_groups(whole, whole.backbone)
    both = [LayerReader(h, h.backbone, group).read(prompts) for h in (split, whole)]
    assert torch.equal(both[0].values, both[1].values) and both[0].counts == (2, 2, 6)


def test_zeros_that_fill_up_are_no_tokens():
    reader = TextReader(Ragged())
    pair, alone = ["a cat", "a red dog on a table"], [["a cat"], ["a red dog on a table"]]
    each = [moment_of(reader, texts).value for texts in alone]
    assert torch.allclose(moment_of(reader, pair).value, (each[0] + each[1]) / 2)
    assert torch.allclose(moment_of(reader, pair, [3.0, 1.0]).value, (3 * each[0] + each[1]) / 4)


@pytest.mark.parametrize(
    ("ours", "theirs", "ends"),
    [
        ([1, 5, 9], [1, 6, 9], (2, 2)),
        ([1, 5, 9, 9, 9], [1, 6, 7, 9, 9], (2, 3)),
        ([1, 5, 4, 9], [1, 5, 9], (3, 2)),
        ([1, 5, 5, 9], [1, 5, 9], (3, 2)),
        ([5], [6], (1, 1)),
        ([1, 5, 9], [1, 5, 9], (3, 3)),
    ],
)
def test_words_end_where_the_rest_is_the_same(ours, theirs, ends):
    assert ends_of(ours, theirs) == ends


def test_numbers_are_those_of_the_tokens_that_are_read():
    assert fitting([[[1, 2, 3], [4, 5]]], [2]) == [[4, 5]]
    assert fitting([[[1, 2, 3]]], [2]) == [[2, 3]], "a template's beginning is left out"
    assert fitting([[[1]]], [2]) is None and fitting([[], []], [1, 1]) is None
    first, second = [[1, 2], [7, 8]], [[1, 2, 3], [7, 8]]
    assert fitting([first, second], [2, 2]) == [[7, 8], [7, 8]], "one tokenizer for all, though another fits the first"
    assert without_padding([1, 2, 0, 0, 0]) == [1, 2, 0] and without_padding([7]) == [7]


def test_zeros_that_a_network_puts_behind_a_prompt_are_not_read():
    assert without_zeros(torch.tensor([[1.0, 0], [0, 0], [0, 2], [0, 0]])).tolist() == [[1, 0], [0, 0], [0, 2]]
    assert without_zeros(torch.zeros(3, 2)).shape == (1, 2)


def test_tokens_of_prompts_of_several_lengths_find_their_counterparts():
    reader, pair = TextReader(Ragged()), [("a photo of a cat", "a photo of a fire engine"), ("cat", "truck")]
    ours, theirs = (reader.read(side) for side in zip(*pair, strict=True))
    places = counterparts(reader, pair, ours, theirs)
    assert places[0].tolist() == [0, 1, 2, 3, 5] and places[1, 0] == 0
    assert by_numbers(TextReader(TinyHost()), pair, (ours, theirs)) is None
    assert ours.values.shape[-1] == WIDTH
