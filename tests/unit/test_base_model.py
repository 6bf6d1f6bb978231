"""The base model while a stack is applied: shown to the bit of rounding, and gone without a trace."""

from contextlib import nullcontext

import pytest
import torch

from tests.deltas import an_info
from tests.tiny import WIDTH, TinyHost
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
    with host.session(stack) as backbone, BaseModel(backbone, host.layers(), stack).hooked(backbone) as base_model:
        stacked = direction(host, x, sigma, c)
        assert (stacked - base).abs().max() > 0.01
        with attached(backbone, adapted, 2, 0) if adapted else nullcontext():
            with base_model.shown():
                assert torch.allclose(direction(host, x, sigma, c), base, atol=1e-4)
                with base_model.shown():
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
