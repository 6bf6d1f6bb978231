"""The losses by hand-computable cases, and the penalty on what preserved words feel."""

import pytest
import torch
from torch import nn

from unlearn_core.method.adapters import attached
from unlearn_core.method.token_moments import Moment
from unlearn_core.method.training import losses
from unlearn_core.method.training.losses import PreservationPenalty

CPU = torch.device("cpu")
PATHS = ["attn2.to_k", "attn2.to_v"]


def block(*sizes):
    """A module with one layer from 3 numbers to each of the sizes."""
    made = nn.Module()
    made.attn2 = nn.Module()
    for path, size in zip(PATHS, sizes, strict=False):
        setattr(made.attn2, path.rpartition(".")[2], nn.Linear(3, size, bias=False))
    return made


def weights_of(adapters):
    """{path: W} of all adapted layers."""
    return {p: adapters.weight(p) for p in adapters.factors}


def test_drift_is_the_squared_norm_of_the_product():
    a, b = torch.randn(3, 7), torch.randn(5, 3)
    assert losses.drift([(a, b, 0.5)]).item() == pytest.approx((0.5 * b @ a).pow(2).sum().item(), rel=1e-5)


def test_squared_distance_is_per_sample_and_stops_at_the_teacher():
    student, teacher = torch.zeros(2, 1, 2, 2, requires_grad=True), torch.ones(2, 1, 2, 2, requires_grad=True)
    distance = losses.squared_distance(student, teacher * torch.tensor([1.0, 2.0]).view(2, 1, 1, 1))
    assert distance.tolist() == [1.0, 4.0]
    distance.sum().backward()
    assert student.grad is not None and teacher.grad is None


def test_preserved_words_are_held_at_the_base_and_erased_ones_at_the_stack():
    layer = block(2)
    kept, erased = torch.randn(5, 4, 3), torch.randn(3, 4, 3)
    added = torch.randn(2, 2) @ torch.randn(2, 3)
    with attached(layer, PATHS[:1], 1, 0) as adapters:
        down, up = torch.randn(1, 3), torch.randn(2, 1)
        adapters.start(PATHS[0], down, up)
        penalty = PreservationPenalty.make(
            weights_of(adapters), Moment.of(kept), Moment.of(erased), {PATHS[0]: added}, CPU
        )
        got, weight = penalty(adapters), adapters.weight(PATHS[0])
    own = up @ down
    moved = (kept @ (own + added).T).pow(2).sum() + (erased @ own.T).pow(2).sum()
    answer = (torch.cat([kept, erased]) @ weight.T).pow(2).sum()
    assert got.item() == pytest.approx((moved / answer).item(), rel=1e-4)


def test_the_penalty_is_the_mean_over_layers_of_any_shape():
    layer, kept = block(2, 5), torch.randn(5, 4, 3)
    with attached(layer, PATHS, 1, 0) as adapters:
        changes = {p: (torch.randn(len(adapters.weight(p)), 1), torch.randn(1, 3)) for p in PATHS}
        for path, (up, down) in changes.items():
            adapters.start(path, down, up)
        got = PreservationPenalty.make(weights_of(adapters), Moment.of(kept), None, {}, CPU)(adapters)
        shares = [
            (kept @ (up @ down).T).pow(2).sum() / (kept @ adapters.weight(p).T).pow(2).sum()
            for p, (up, down) in changes.items()
        ]
    assert got.item() == pytest.approx(sum(shares).item() / 2, rel=1e-4)


def test_undoing_what_earlier_deltas_did_to_preserved_words_is_rewarded():
    earlier = torch.randn(1, 3), torch.randn(2, 1)
    with attached(block(2), PATHS[:1], 1, 0) as adapters:
        kept = Moment.of(torch.randn(5, 4, 3))
        penalty = PreservationPenalty.make(weights_of(adapters), kept, None, {PATHS[0]: earlier[1] @ earlier[0]}, CPU)
        idle = penalty(adapters).item()
        adapters.start(PATHS[0], earlier[0], -earlier[1])
        assert idle > 0.01
        assert penalty(adapters).item() / idle == pytest.approx(0.0, abs=1e-6)


def test_gradients_come_back_without_the_scale_and_clipped():
    p = nn.Parameter(torch.tensor([3.0, 4.0]))
    losses.go_back(0.05 * p.square().sum())
    losses.ready([p, nn.Parameter(torch.zeros(1))])
    assert torch.allclose(p.grad, torch.tensor([0.3, 0.4]))
    losses.go_back(p.square().sum())
    losses.ready([p])
    assert p.grad.norm().item() == pytest.approx(1.0, abs=1e-5)


def test_small_gradients_of_half_precision_are_not_lost():
    """Of a mean over as many numbers as a picture of SDXL has, the gradient of each is below float16's smallest."""
    answer = torch.full((65536,), 5e-4, dtype=torch.float16, requires_grad=True)
    answer.float().square().mean().backward()
    assert not answer.grad.any()
    answer.grad = None
    losses.go_back(answer.float().square().mean())
    assert answer.grad.float().div(losses.LOSS_SCALE).mean().item() == pytest.approx(1e-3 / 65536, rel=0.05)
