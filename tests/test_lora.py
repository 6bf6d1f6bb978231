"""Adapters come and go without a trace; losses and subspace by hand-computable cases."""

import pytest
import torch
from torch import nn

from tests.tiny import TinyHost
from unlearn_core import UnlearnError
from unlearn_core.method.adapters import attached
from unlearn_core.method.token_moments import Moment, second_moment
from unlearn_core.method.training import losses
from unlearn_core.method.training.null_space import acting_directions

PATHS = ["blocks.0.attn2.to_k", "blocks.1.attn2.to_v"]


def test_zero_adapter_is_the_base_exactly_and_leaves_no_trace():
    host = TinyHost()
    x, sigma, c = torch.randn(2, *host.latent_shape), host.sigmas[[5, 80]], host.encode(["a cat", "a dog"])
    base, modules, attributes = host.denoise(x, sigma, c), dict(host.backbone.named_modules()), set(vars(host.backbone))
    with attached(host.backbone, PATHS, 4, 0) as adapters:
        assert torch.equal(host.denoise(x, sigma, c), base)
        for down, up in adapters.factors.values():
            assert down.dtype == up.dtype == torch.float32 and down.requires_grad and up.requires_grad
            up.data += 1
        assert not torch.allclose(host.denoise(x, sigma, c), base)
        with adapters.off():
            assert torch.equal(host.denoise(x, sigma, c), base)
        assert not torch.allclose(host.denoise(x, sigma, c), base)
    assert torch.equal(host.denoise(x, sigma, c), base)
    assert dict(host.backbone.named_modules()) == modules and set(vars(host.backbone)) == attributes
    assert not any(p.requires_grad for p in host.backbone.parameters())


def test_adapter_is_what_the_factors_say():
    layer = nn.ModuleDict({"to_k": nn.Linear(6, 5, bias=False)})
    x = torch.randn(3, 6)
    with attached(layer, ["to_k"], 2, 0) as adapters:
        down, up = torch.randn(2, 6), torch.randn(5, 2)
        adapters.start("to_k", down, up)
        got = layer["to_k"](x)
        assert torch.equal(adapters.pair("to_k")[0], down)
    assert torch.allclose(got, layer["to_k"](x) + x @ (up @ down).T, atol=1e-5)


def test_only_the_named_layers_are_adapted():
    host = TinyHost()
    with attached(host.backbone, PATHS, 2, 0) as adapters:
        assert sorted(adapters.factors) == PATHS
        assert not hasattr(host.backbone.blocks[0].attn2.to_v, "lora_A")


def test_layers_that_peft_cannot_adapt_are_an_error():
    host = TinyHost()
    with pytest.raises(UnlearnError), attached(host.backbone, ["blocks.0.norm"], 2, 0):
        pass
    assert isinstance(host.backbone.blocks[0].norm, nn.LayerNorm)


def test_missing_peft_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(UnlearnError, match="pip install"), attached(TinyHost().backbone, PATHS, 2, 0):
        pass


def test_drift_is_the_squared_norm_of_the_product():
    a, b = torch.randn(3, 7), torch.randn(5, 3)
    assert losses.drift([(a, b, 0.5)]).item() == pytest.approx((0.5 * b @ a).pow(2).sum().item(), rel=1e-5)


def test_squared_distance_is_per_sample_and_stops_at_the_teacher():
    student, teacher = torch.zeros(2, 1, 2, 2, requires_grad=True), torch.ones(2, 1, 2, 2, requires_grad=True)
    distance = losses.squared_distance(student, teacher * torch.tensor([1.0, 2.0]).view(2, 1, 1, 1))
    assert distance.tolist() == [1.0, 4.0]
    distance.sum().backward()
    assert student.grad is not None and teacher.grad is None


def test_second_moment_by_hand():
    tokens = torch.tensor([[[1.0, 0.0], [1.0, 2.0]]])
    assert second_moment(tokens).tolist() == [[1.0, 1.0], [1.0, 2.0]]


def test_moments_of_two_lists_are_weighed_by_their_sentences():
    one, other = Moment.of(torch.tensor([[[1.0, 0.0]]])), Moment.of(torch.tensor([[[0.0, 2.0]]] * 3))
    both = one + other
    assert both.value.tolist() == [[0.25, 0.0], [0.0, 3.0]] and both.sentences == 4


def test_acting_directions_avoid_what_is_kept():
    kept = torch.zeros(50, 1, 4)
    kept[:, 0, 0] = torch.randn(50) * 3
    target, mapped = torch.tensor([[[2.0, 1.0, 0.0, 0.0]]]), torch.zeros(1, 1, 4)
    free = acting_directions(target, mapped, second_moment(kept), 1, 0.0)
    strict = acting_directions(target, mapped, second_moment(kept), 1, 1e6)
    assert abs(free[0, 0]) > abs(free[0, 1])
    assert abs(strict[0, 0]) < 1e-3 < abs(strict[0, 1])
    for rows in (free, strict):
        assert abs(rows[0] @ target[0, 0]).item() == pytest.approx(1.0, rel=1e-3)
