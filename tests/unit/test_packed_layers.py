"""Layers of a host's own classes, whose weights are packed or patched only in a pass: read, edited, trained beside."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.deltas import an_info
from tests.tiny import TinyHost
from unlearn_core import UnlearnError
from unlearn_core.delta.base_model import BaseModel
from unlearn_core.delta.format import Delta, Factor
from unlearn_core.delta.stack import Stack
from unlearn_core.method import run as runs
from unlearn_core.method.adapters import also_beside, attached
from unlearn_core.method.layer_edits import LayerEdits
from unlearn_core.method.training.memory import storages

PATH = "blocks.0.attn2.to_k"


class Halved(nn.Module):
    """Linear by what it does: holds half of what it multiplies by, in float8, and is no torch layer."""

    def __init__(self, weight):
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.weight = nn.Parameter((weight / 2).to(torch.float8_e4m3fn), requires_grad=False)

    def whole(self):
        return self.weight.float() * 2

    def forward(self, x):
        return F.linear(x, self.whole())


def test_weights_are_read_one_at_a_time_by_the_host():
    layers, asked = nn.ModuleDict({n: Halved(torch.ones(3, 2)) for n in "ab"}), []

    def read(path):
        asked.append(path)
        return layers[path].whole()

    edits = LayerEdits(layers, "ab", read)
    weights = edits.weights(["a", "b"])
    assert list(weights) == ["a", "b"] and len(weights) == 2 and not asked and edits.width("a") == 2
    assert torch.equal(weights["b"], torch.ones(3, 2)) and asked == ["b"]
    with pytest.raises(KeyError):
        weights["c"]


def test_a_run_asks_the_host_that_can_tell_its_weights():
    host = TinyHost()
    assert runs.reader_of(host) is None
    host.weight = lambda path: torch.full((1,), 7.0)
    assert LayerEdits(host.backbone, [PATH], runs.reader_of(host)).weight(PATH) == 7


def test_edits_follow_the_answers_to_their_device():
    layers = nn.ModuleDict({"a": Halved(torch.ones(3, 2))})
    edits = LayerEdits(layers, ["a"])
    edits.set({"a": (torch.ones(1, 2, device="meta"), torch.ones(3, 1, device="meta"))})
    edits.factors["a"] = tuple(t.to("meta") for t in edits.factors["a"])
    with edits.hooked(), pytest.raises(NotImplementedError, match="meta"):
        layers["a"](torch.ones(1, 2))
    edits.set({"a": (torch.ones(1, 2), torch.ones(3, 1))})
    with edits.hooked():
        assert torch.equal(layers["a"](torch.ones(1, 2)), torch.full((1, 3), 4.0))


def test_the_base_model_of_a_float8_layer_loses_no_change():
    """A change of a hundredth of the weights is lost where it is rounded to their float8."""
    weight = torch.ones(4, 4)
    layers = nn.ModuleDict({"a": Halved(weight)})
    factor = Factor(torch.full((1, 4), 0.0101), torch.ones(4, 1), 1.0)
    delta = Delta({"diffusion_model.a": factor}, an_info(merged=(), parents=()))
    base = BaseModel(layers, {"diffusion_model.a": "a"}, Stack().with_delta(delta))
    assert base.changes["a"].dtype == torch.float32
    x = torch.eye(4)
    with base.hooked(layers), base.shown():
        assert torch.allclose(layers["a"](x), weight - 0.0101, atol=1e-6)


def test_adapters_train_beside_a_layer_of_another_class():
    layers = nn.ModuleDict({"a": Halved(torch.ones(3, 2)), "b": nn.Linear(2, 2)})
    kept, x = dict(layers.named_modules()), torch.randn(5, 2)
    plain = layers["a"](x)
    with attached(
        layers, ["a", "b"], 2, 0, torch.device("cpu"), lambda path: layers[path].base_layer.whole()
    ) as adapters:
        assert torch.equal(layers["a"](x), plain) and torch.equal(adapters.weight("a"), torch.ones(3, 2))
        assert {t.dtype for pair in adapters.factors.values() for t in pair} == {torch.float32}
        layers["a"](x).square().sum().backward()
        assert adapters.factors["a"][1].grad.abs().sum() > 0
    assert dict(layers.named_modules()) == kept and torch.equal(layers["a"](x), plain)


def test_adapters_are_where_the_layer_is_used():
    layers = nn.ModuleDict({"a": nn.Linear(2, 2)})
    with attached(layers, ["a"], 2, 0, torch.device("meta")) as adapters:
        assert {t.device.type for t in adapters.factors["a"]} == {"meta"}


def test_an_old_peft_says_what_to_do():
    with pytest.raises(UnlearnError, match="newer peft"):
        also_beside(object(), [Halved(torch.ones(2, 2))])
    also_beside(object(), [nn.Linear(2, 2), nn.LayerNorm(2)])


def test_a_packed_tensor_lies_where_its_parts_do():
    class Packed(torch.Tensor):
        """Numbers and their scale."""

        def __tensor_flatten__(self):
            return ["data_", "scale"], None

    packed, plain = torch.zeros(1).as_subclass(Packed), torch.ones(2)
    packed.data_, packed.scale = plain, torch.ones(1)
    assert storages(plain) == [plain.untyped_storage().data_ptr()] == storages(packed)[:1]
    assert len(storages(packed)) == 2
