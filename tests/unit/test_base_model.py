"""The base model while a stack is applied: shown to the bit of rounding, and gone without a trace."""

import weakref
from contextlib import nullcontext

import pytest
import torch

from tests.deltas import an_info
from tests.tiny import WIDTH, TinyHost
from unlearn_core.delta import base_model
from unlearn_core.delta.base_model import BaseModel
from unlearn_core.delta.format import Delta, Factor
from unlearn_core.delta.stack import Entry, Stack
from unlearn_core.method.adapters import attached
from unlearn_core.sampling import direction

K, V, Q = (f"blocks.0.attn2.to_{part}" for part in "kvq")


def stack_on(host, paths, strengths=(1.0, -0.5)):
    """Deltas of rank 2 with a scale of 2 and of rank 3 with a scale of a third, each on all paths."""
    g = torch.Generator().manual_seed(3)
    entries = []
    for rank, alpha, strength in zip((2, 3), (4.0, 1.0), strengths, strict=True):
        factors = {
            "diffusion_model." + p: Factor(
                torch.randn(rank, WIDTH, generator=g), torch.randn(WIDTH, rank, generator=g), alpha
            )
            for p in paths
        }
        entries.append(Entry(Delta(factors, an_info(merged=(), parents=())), strength))
    return Stack(tuple(entries))


def rows(host):
    prompts = ["a cat", "a dog", "a car", "a frog"]
    g = torch.Generator().manual_seed(0)
    return torch.randn(4, *host.latent_shape, generator=g), host.sigmas[[5, 40, 60, 80]], host.encode(prompts)


@pytest.mark.parametrize("adapted", [[K, V], [V], []])
def test_the_base_model_is_there_while_the_stack_is_applied(adapted):
    host = TinyHost()
    x, sigma, c = rows(host)
    base = direction(host, x, sigma, c)
    stack = stack_on(host, [K, Q])
    with host.session(stack) as backbone, BaseModel(backbone, host.layers(), stack).hooked(backbone) as model:
        stacked = direction(host, x, sigma, c)
        assert (stacked - base).abs().max() > 0.01
        with attached(backbone, adapted, 2, 0) if adapted else nullcontext():
            with model.shown():
                assert torch.allclose(direction(host, x, sigma, c), base, atol=1e-4)
                with model.shown():
                    pass
                assert torch.allclose(direction(host, x, sigma, c), base, atol=1e-4)
            assert torch.equal(direction(host, x, sigma, c), stacked)
    assert torch.equal(direction(host, x, sigma, c), base)
    assert not any(m._forward_hooks for m in host.backbone.modules())


def test_hooks_go_when_the_run_fails():
    host = TinyHost()
    stack = stack_on(host, [K])
    with pytest.raises(RuntimeError), BaseModel(host.backbone, host.layers(), stack).hooked(host.backbone):
        raise RuntimeError
    assert not any(m._forward_hooks for m in host.backbone.modules())


def test_deltas_that_are_switched_off_change_nothing():
    host = TinyHost()
    assert BaseModel(host.backbone, host.layers(), stack_on(host, [K], (0.0, 0.0))).changes == {}


def by_the_formula(stack, path):
    return sum(e.strength * e.delta.factors["diffusion_model." + path].matrix() for e in stack)


def taller(stack):
    """With the same changes once more, by other deltas at another strength."""
    again = [
        Delta({n: Factor(f.down, -f.up, f.alpha) for n, f in e.delta.factors.items()}, e.delta.info) for e in stack
    ]
    return Stack((*stack, *(Entry(delta, 0.25) for delta in again)))


@pytest.fixture
def wide(monkeypatch):
    """Layers count as large, and factors of rank 5 as much smaller than they are."""
    monkeypatch.setattr(base_model, "WHOLE", 0)
    monkeypatch.setattr(base_model, "LOW", 1)


def test_a_large_change_is_kept_as_its_factors(wide):
    host = TinyHost()
    x, sigma, c = rows(host)
    base = direction(host, x, sigma, c)
    # of the two ranks together 5 is less than half of the width, and 10 is not
    low, high = stack_on(host, [K]), taller(stack_on(host, [K]))
    for stack, count in ((low, 2), (high, 1)):
        with host.session(stack) as backbone:
            model = BaseModel(backbone, host.layers(), stack)
            assert len(model.changes.kept[K]) == count
            with model.hooked(backbone), model.shown():
                assert torch.allclose(direction(host, x, sigma, c), base, atol=1e-4)
            assert torch.equal(model.changes[K], by_the_formula(stack, K)) and list(model.changes) == [K]


def test_no_two_matrices_of_large_changes_are_there_at_once(wide, monkeypatch):
    """Neither when the run is opened, nor when one after another is asked for."""
    host, formed, whole = TinyHost(), [], Factor.matrix

    def matrix(self):
        formed.append(weakref.ref(made := whole(self)))
        return made

    monkeypatch.setattr(Factor, "matrix", matrix)
    changes = BaseModel(host.backbone, host.layers(), stack_on(host, [K, V, Q], (1.0, 0.0))).changes
    assert len(changes) == 3 and not formed
    for path in changes:
        assert changes[path].shape == (WIDTH, WIDTH)
        assert not any(ref() is not None for ref in formed)
    assert len(formed) == 3


def test_a_small_change_is_formed_once():
    host = TinyHost()
    stack = stack_on(host, [K])
    changes = BaseModel(host.backbone, host.layers(), stack).changes
    assert changes[K] is changes[K] and torch.equal(changes[K], by_the_formula(stack, K))
