"""Each target goes its part of the way and no more: hand-computable cases and what the algebra promises."""

from dataclasses import replace

import pytest
import torch

from tests.tiny import WIDTH, TinyHost
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


def pulls_by_the_formula(reach):
    """tr(M C_i S^-1 C_j^T), with all matrices whole."""
    crosses, inverse = [way.cross for way in reach.ways.values()], torch.linalg.inv(reach.held)
    return torch.stack([torch.stack([(reach.measure @ a @ inverse * b).sum() for b in crosses]) for a in crosses])


def crosses_by_the_formula(targets=PAIRS):
    return [moments(TextReader(TinyHost()), pairs, [0.0] * len(pairs))[0] for pairs in targets]


# the second target is one word of few: tokens that go no way are no part of it
@pytest.mark.parametrize("few", [True, False])
@pytest.mark.parametrize("at_once", [1, 3 * 2 * WIDTH, 2**23])
def test_pulls_are_those_of_whole_matrices(few, at_once, monkeypatch):
    monkeypatch.setattr("unlearn_core.method.reach.AT_ONCE", at_once)
    if not few:
        every = torch.ones(WIDTH, WIDTH)
        monkeypatch.setattr("unlearn_core.method.reach.telling", lambda *_: (every, every))
    reach = made(TinyHost())
    assert [way.left is not None for way in reach.ways.values()] == [few, few]
    for way, cross in zip(reach.ways.values(), crosses_by_the_formula(), strict=True):
        assert torch.allclose(way.cross, cross, rtol=1e-9, atol=1e-12)
        assert torch.allclose(way.after(reach.measure), reach.measure @ cross, rtol=1e-9, atol=1e-12)
    assert torch.allclose(reach.pulls, pulls_by_the_formula(reach), rtol=1e-9, atol=0)


def test_a_target_takes_no_more_memory_than_its_tokens_or_half_of_a_wide_matrix(monkeypatch):
    few = made(TinyHost()).ways.values()
    assert [len(way.right) for way in few] == [2, 1], "of each prompt the one token that goes another way"
    every = torch.ones(WIDTH, WIDTH)
    monkeypatch.setattr("unlearn_core.method.reach.telling", lambda *_: (every, every))
    assert {way.right.dtype for way in made(TinyHost()).ways.values()} == {torch.float64}
    monkeypatch.setattr("unlearn_core.method.reach.IN_FLOAT64", WIDTH - 1)
    reach = made(TinyHost())
    assert {way.right.dtype for way in reach.ways.values()} == {torch.float32}
    for way, cross in zip(reach.ways.values(), crosses_by_the_formula(), strict=True):
        assert way.cross.dtype == torch.float64 and torch.allclose(way.cross, cross, rtol=1e-6, atol=1e-9)


def test_pulls_hold_no_matrix_a_target(monkeypatch):
    """The largest tensor that is made on the way is of rows of all targets, not all of each."""
    reach, sizes, solve = made(TinyHost()), [], torch.linalg.solve_triangular
    monkeypatch.setattr("unlearn_core.method.reach.AT_ONCE", 4 * WIDTH)
    monkeypatch.setattr(torch.linalg, "solve_triangular", lambda a, b, **k: sizes.append(b.numel()) or solve(a, b, **k))
    assert reach.pulls.shape == (2, 2) and max(sizes) == 2 * WIDTH


def test_without_a_way_there_is_no_pull():
    assert replace(made(TinyHost()), ways={}).pulls.shape == (0, 0)


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
