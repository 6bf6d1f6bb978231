"""Each target goes its part of the way and no more: hand-computable cases and what the algebra promises."""

from dataclasses import replace

import pytest
import torch

from tests.tiny import TinyHost
from tests.unit.runs import config, opened
from unlearn_core.method.closed_form import moments
from unlearn_core.method.reach import Reach, multipliers, way_of
from unlearn_core.method.text_layers import reads_text
from unlearn_core.method.text_reader import TextReader
from unlearn_core.recipe import SMALL

PATH = "blocks.0.attn2.to_k"
PAIRS = [("a banana", "a pear"), ("a banana in ink style", "a pear in ink style")], [("a frog", "a cat")]


def made(host, targets=PAIRS):
    with opened(host, config(closed_form=True, going=("frog",)), None, SMALL) as run:
        return Reach.make(run, run.readers[0], targets)


def weights_of(host):
    paths = [p for p in dict.fromkeys(host.layers().values()) if reads_text(p)]
    return {p: host.backbone.get_submodule(p).weight.detach().double() for p in paths}


def changes_of(reach, weights, reaches, rank=16):
    return {p: (up @ down).double() for p, down, up in reach.factors(weights, {}, rank, reaches)}


def gone(way, weights, changes):
    """The part of its way that a target goes, over all layers."""
    return sum(float((weights[p] @ way.cross).mul(changes[p]).sum()) for p in weights) / way.length


def test_two_targets_that_have_nothing_in_common_each_take_what_they_need():
    found = multipliers(torch.diag(torch.tensor([2.0, 4.0]).double()), torch.tensor([1.0, 1.0]).double())
    assert found.tolist() == [0.5, 0.25]


def test_a_target_that_goes_along_with_another_takes_nothing():
    """One pull does twice as much for the second target as it needs."""
    pulls = torch.tensor([[1.0, 2.0], [2.0, 5.0]]).double()
    assert multipliers(pulls, torch.tensor([1.0, 1.0]).double()).tolist() == pytest.approx([1.0, 0.0], abs=1e-3)
    both = multipliers(pulls, torch.tensor([1.0, 2.2]).double())
    assert (pulls @ both).tolist() == pytest.approx([1.0, 2.2], rel=1e-3) and (both > 0).all()


def test_what_cannot_be_reached_together_ends_and_stays_finite():
    found = multipliers(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).double(), torch.tensor([1.0, 1.0]).double())
    assert torch.isfinite(found).all()
    assert multipliers(torch.zeros(1, 1).double(), torch.ones(1).double()).tolist() == [0.0]


def test_each_target_goes_just_as_far_as_it_is_asked_to():
    host = TinyHost()
    weights, reach = weights_of(host), made(host)
    for asked in ((0.3, 0.3), (0.6, 0.9), (1.2, 0.5)):
        changes = changes_of(reach, weights, asked)
        assert [gone(way, weights, changes) for way in reach.ways.values()] == pytest.approx(asked, rel=1e-3)


def test_no_other_change_that_goes_so_far_moves_less_of_what_stays():
    host = TinyHost()
    weight = {PATH: weights_of(host)[PATH]}
    whole = made(host)
    pull = weight[PATH] @ whole.ways[0].cross
    way = replace(whole.ways[0], length=float(pull.square().sum()))
    reach = replace(whole, measure=weight[PATH].T @ weight[PATH], ways={0: way})
    change, held = changes_of(reach, weight, (0.5,))[PATH], reach.held
    cost, generator = float((change @ held * change).sum()), torch.Generator().manual_seed(0)
    for _ in range(20):
        other = torch.randn(change.shape, generator=generator).double() * change.std()
        # as far for the target, another way for the rest
        other -= pull * float((other * pull).sum() / pull.square().sum())
        moved = change + 0.3 * other
        assert gone(way, weight, {PATH: moved}) == pytest.approx(0.5, rel=1e-3)
        assert float((moved @ held * moved).sum()) > cost


def test_further_moves_more_of_what_stays():
    host = TinyHost()
    weights, reach = weights_of(host), made(host)
    moved = []
    for part in (0.2, 0.5, 1.0):
        changes = changes_of(reach, weights, (part, part))
        moved.append(sum(float((c @ reach.held * c).sum()) for c in changes.values()))
    assert moved == sorted(moved)
    assert moved[1] == pytest.approx(6.25 * moved[0], rel=1e-2), "the square of how far"


def test_a_target_that_nothing_tells_from_its_anchor_asks_for_nothing(monkeypatch):
    def no_way(run, reader, pairs, measure):
        way, gram = way_of(run, reader, pairs, measure)
        return (replace(way, length=0.0) if pairs == PAIRS[1] else way), gram

    whole = made(TinyHost())
    monkeypatch.setattr("unlearn_core.method.reach.way_of", no_way)
    reach = made(TinyHost())
    assert list(whole.ways) == [0, 1] and list(reach.ways) == [0]
    assert torch.equal(reach.held, whole.held), "its tokens are held together all the same"
    asked = [reach.equations((0.6, further))[0] for further in (0.5, 5.0)]
    assert torch.equal(*asked) and asked[0].abs().max() > 0
    assert made(TinyHost(), PAIRS[1:]).equations((0.6,))[0].abs().max() == 0


def test_without_counterparts_there_is_nothing_to_solve():
    class Bidirectional(TinyHost):
        """Every token hears of every other one, as in T5."""

        def encode(self, prompts):
            rows = super().encode(prompts)
            rows.tokens.add_(rows.tokens.mean(1, keepdim=True))
            return rows

    assert made(Bidirectional()) is None


def test_ways_do_not_depend_on_how_much_is_in_memory(monkeypatch):
    whole = made(TinyHost())
    monkeypatch.setattr("unlearn_core.method.reach.PROMPTS_AT_ONCE", 1)
    monkeypatch.setattr("unlearn_core.method.token_moments.TOKENS_AT_ONCE", 7)
    parts = made(TinyHost())
    assert torch.allclose(whole.held, parts.held)
    for one, other in zip(whole.ways.values(), parts.ways.values(), strict=True):
        assert torch.allclose(one.cross, other.cross) and one.length == pytest.approx(other.length)
    cross, _ = moments(TextReader(TinyHost()), PAIRS[0], [0.0] * 2)
    assert torch.allclose(cross, whole.ways[0].cross)
