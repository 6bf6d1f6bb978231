"""peft adapters come and go without a trace, and are what their factors say; the running mean of the last steps."""

import sys

import pytest
import torch
from torch import nn

from tests.tiny import TinyHost
from unlearn_core import UnlearnError
from unlearn_core.method.adapters import Average, attached

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


def test_each_adapter_can_have_a_rank_of_its_own():
    layers = nn.ModuleDict({name: nn.Linear(6, 5, bias=False) for name in ("k", "v", "txt_in")})
    x, ranks = torch.randn(3, 6), {"k": 2, "v": 4, "txt_in": 3}
    with attached(layers, list(ranks), ranks, 0) as adapters:
        assert {path: len(down) for path, (down, _) in adapters.factors.items()} == ranks
        for path, rank in ranks.items():
            down, up = torch.randn(rank, 6), torch.randn(5, rank)
            adapters.start(path, down, up)
            own = layers[path].base_layer(x)
            assert torch.allclose(layers[path](x), own + x @ (up @ down).T, atol=1e-5), "alpha is the rank"


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
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UnlearnError, match="pip install"), attached(TinyHost().backbone, PATHS, 2, 0):
        pass


def test_layers_of_one_shape_are_stacked():
    block = nn.ModuleDict({"a": nn.Linear(6, 5), "b": nn.Linear(4, 5), "c": nn.Linear(6, 5)})
    with attached(block, ["a", "b", "c"], 2, 0) as adapters:
        found = {tuple(paths): (down.shape, up.shape) for paths, down, up in adapters.alike(["a", "b", "c"])}
        assert found == {("a", "c"): ((2, 2, 6), (2, 5, 2)), ("b",): ((1, 2, 4), (1, 5, 2))}


def test_the_mean_follows_the_values_and_changes_places_with_them():
    """Decays of the first steps: 1/6, 2/7, then at most the given 0.3."""
    value = nn.Parameter(torch.tensor([0.0]))
    average = Average([value], 0.3)
    mean = 0.0
    for new, decay in ((6.0, 1 / 6), (7.0, 2 / 7), (10.0, 0.3)):
        value.data[:] = new
        average.update()
        mean = decay * mean + (1 - decay) * new
    with average.swapped():
        assert value.item() == pytest.approx(mean)
    assert value.item() == 10.0
    average.swap()
    assert value.item() == pytest.approx(mean)
