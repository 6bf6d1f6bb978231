"""Changes that the closed form makes: the same as a merged weight and as an adapter, and gone without a trace."""

import pytest
import torch
from torch import nn

from tests.tiny import TinyHost
from tests.unit.runs import assert_same, state_of
from unlearn_core.method.adapters import attached
from unlearn_core.method.layer_edits import LayerEdits

PATHS = ["blocks.1.attn2.to_v", "blocks.0.attn2.to_k"]


def some_factors(seed=0):
    g = torch.Generator().manual_seed(seed)
    return {p: (torch.randn(3, 16, generator=g), torch.randn(16, 3, generator=g)) for p in PATHS}


def rows(host):
    return torch.ones(2, *host.latent_shape), host.sigmas[[20, 70]], host.encode(["a cat", "a dog"])


@torch.no_grad()
def answers(host):
    return host.denoise(*rows(host))


@torch.no_grad()
def merged(host, factors):
    """The answers of a network whose weights hold the changes."""
    weights = {p: host.backbone.get_submodule(p).weight for p in factors}
    before = {p: w.clone() for p, w in weights.items()}
    for path, (down, up) in factors.items():
        weights[path] += up @ down
    found = answers(host)
    for path, w in weights.items():
        w.copy_(before[path])
    return found


def test_hooked_changes_are_those_of_a_merged_weight():
    host, factors = TinyHost(), some_factors()
    plain, wanted, edits = answers(host), merged(host, factors), LayerEdits(host.backbone, PATHS)
    edits.set(factors)
    assert torch.equal(answers(host), plain)  # not hooked yet
    with edits.hooked():
        assert torch.allclose(answers(host), wanted, atol=1e-5) and not torch.allclose(wanted, plain, atol=1e-2)


def test_hooked_changes_are_those_of_peft_adapters():
    host, factors = TinyHost(), some_factors()
    with attached(host.backbone, PATHS, 3, 0) as adapters:
        for path, (down, up) in factors.items():
            adapters.start(path, down, up)
        wanted = answers(host)
    edits = LayerEdits(host.backbone, PATHS)
    edits.set(factors)
    with edits.hooked():
        assert torch.allclose(answers(host), wanted, atol=1e-5)


def test_off_is_the_model_before_also_when_nested_and_after_an_error():
    host = TinyHost()
    edits = LayerEdits(host.backbone, PATHS)
    plain = answers(host)
    edits.set(some_factors())
    with edits.hooked():
        on = answers(host)
        with edits.off():
            with edits.off():
                assert torch.equal(answers(host), plain)
            assert torch.equal(answers(host), plain)
        with pytest.raises(RuntimeError), edits.off():
            raise RuntimeError
        assert torch.equal(answers(host), on) and not torch.equal(on, plain)


def test_set_replaces_all_changes():
    host = TinyHost()
    edits = LayerEdits(host.backbone, PATHS)
    plain, one = answers(host), {PATHS[0]: some_factors(1)[PATHS[0]]}
    edits.set(some_factors())
    edits.set(one)
    with edits.hooked():
        assert torch.allclose(answers(host), merged(TinyHost(), one), atol=1e-5)
        edits.set({})
        assert torch.equal(answers(host), plain)


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_the_network_is_as_it_was_afterwards(error):
    host = TinyHost()
    before, edits = state_of(host), LayerEdits(host.backbone, PATHS)
    edits.set(some_factors())
    try:
        with edits.hooked():
            assert before["hooks"] != state_of(host)["hooks"]
            if error:
                raise error
    except KeyboardInterrupt:
        pass
    assert_same(before, state_of(host))


def test_paths_are_in_order_and_weights_are_the_layers_own():
    host = TinyHost()
    edits = LayerEdits(host.backbone, PATHS)
    assert edits.paths == tuple(sorted(PATHS))
    edits.set(some_factors())
    with edits.hooked():
        assert torch.equal(edits.weight(PATHS[0]), host.backbone.get_submodule(PATHS[0]).weight)


def test_a_half_precision_layer_answers_in_its_own_type():
    layer = nn.ModuleDict({"to_k": nn.Linear(4, 4).to(torch.bfloat16)}).requires_grad_(False)
    edits, x = LayerEdits(layer, ["to_k"]), torch.ones(1, 4, dtype=torch.bfloat16)
    plain = layer["to_k"](x)
    edits.set({"to_k": (torch.eye(4), torch.eye(4))})
    with edits.hooked():
        assert layer["to_k"](x).dtype == torch.bfloat16
        assert torch.allclose(layer["to_k"](x).float(), plain.float() + 1, atol=0.02)
