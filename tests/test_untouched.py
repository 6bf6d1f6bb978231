"""The base model under an applied stack, what it teaches, and the guard that holds kept words where it has them."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from tests.deltas import an_info
from tests.tiny import WIDTH, TinyHost
from unlearn_core.delta.base_model import Untouched
from unlearn_core.delta.format import Delta, Factor
from unlearn_core.delta.stack import Entry, Stack
from unlearn_core.method.adapters import attached
from unlearn_core.method.token_moments import Moment
from unlearn_core.method.training.losses import TextGuard
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
    with host.session(stack) as backbone, Untouched(backbone, host.layers(), stack).hooked(backbone) as untouched:
        stacked = direction(host, x, sigma, c)
        assert (stacked - base).abs().max() > 0.01
        with attached(backbone, adapted, 2, 0) if adapted else nullcontext():
            with untouched.shown():
                assert torch.allclose(direction(host, x, sigma, c), base, atol=1e-4)
                with untouched.shown():
                    pass
                assert torch.allclose(direction(host, x, sigma, c), base, atol=1e-4)
            assert torch.equal(direction(host, x, sigma, c), stacked)
    assert torch.equal(direction(host, x, sigma, c), base)
    assert not any(m._forward_hooks for m in host.backbone.modules())


def test_hooks_go_when_the_run_fails():
    host = TinyHost()
    stack = stack_on(host, [K])
    with pytest.raises(RuntimeError), Untouched(host.backbone, host.layers(), stack).hooked(host.backbone):
        raise RuntimeError
    assert not any(m._forward_hooks for m in host.backbone.modules())


def test_deltas_that_are_switched_off_change_nothing():
    host = TinyHost()
    assert Untouched(host.backbone, host.layers(), stack_on(host, [K], (0.0, 0.0))).changes == {}


def test_the_guard_holds_kept_words_at_the_base_and_erased_ones_at_the_stack():
    layer = nn.Module()
    layer.attn2 = nn.Module()
    layer.attn2.to_k = nn.Linear(3, 2, bias=False)
    kept, erased = torch.randn(5, 4, 3), torch.randn(3, 4, 3)
    earlier = torch.randn(2, 3), torch.randn(2, 2)
    with attached(layer, ["attn2.to_k"], 1, 0) as adapters:
        down, up = torch.randn(1, 3), torch.randn(2, 1)
        adapters.start("attn2.to_k", down, up)
        got = TextGuard.make(
            adapters, Moment.of(kept), Moment.of(erased), {"attn2.to_k": earlier[1] @ earlier[0]}
        ).penalty(adapters)
        weight = adapters.weight("attn2.to_k")
    own, before = up @ down, earlier[1] @ earlier[0]
    moved = (kept @ (own + before).T).pow(2).sum() + (erased @ own.T).pow(2).sum()
    answer = (torch.cat([kept, erased]) @ weight.T).pow(2).sum()
    assert got.item() == pytest.approx((moved / answer).item(), rel=1e-4)


def test_the_guard_is_the_mean_over_layers_of_any_shape():
    block = nn.Module()
    block.attn2, paths = nn.Module(), ["attn2.to_k", "attn2.to_v"]
    block.attn2.to_k, block.attn2.to_v = nn.Linear(3, 2, bias=False), nn.Linear(3, 5, bias=False)
    kept = torch.randn(5, 4, 3)
    with attached(block, paths, 1, 0) as adapters:
        changes = {p: (torch.randn(len(adapters.weight(p)), 1), torch.randn(1, 3)) for p in paths}
        for path, (up, down) in changes.items():
            adapters.start(path, down, up)
        got = TextGuard.make(adapters, Moment.of(kept)).penalty(adapters)
        shares = [
            (kept @ (up @ down).T).pow(2).sum() / (kept @ adapters.weight(p).T).pow(2).sum()
            for p, (up, down) in changes.items()
        ]
    assert got.item() == pytest.approx(sum(shares).item() / 2, rel=1e-4)


def test_undoing_what_earlier_deltas_did_to_kept_words_is_rewarded():
    layer = nn.Module()
    layer.attn2 = nn.Module()
    layer.attn2.to_k = nn.Linear(3, 2, bias=False)
    earlier = torch.randn(1, 3), torch.randn(2, 1)
    with attached(layer, ["attn2.to_k"], 1, 0) as adapters:
        kept = Moment.of(torch.randn(5, 4, 3))
        guard = TextGuard.make(adapters, kept, None, {"attn2.to_k": earlier[1] @ earlier[0]})
        idle = guard.penalty(adapters).item()
        adapters.start("attn2.to_k", earlier[0], -earlier[1])
        assert idle > 0.01
        assert guard.penalty(adapters).item() / idle == pytest.approx(0.0, abs=1e-6)
