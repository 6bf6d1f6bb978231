"""A loaded model that holds NaN is refused in a sentence before the work, whatever program has loaded it."""

import pytest
import torch

from tests.tiny import TinyHost
from tests.unit.runs import config, run, state_of
from unlearn_core.errors import TrainingFailed
from unlearn_core.method import finite
from unlearn_core.method.finite import check_layers, solved

LAYER = "blocks.1.attn2.to_v"


class Broken(TinyHost):
    """Its text encoder gives NaN."""

    def encode(self, prompts):
        made = super().encode(prompts)
        made.tokens[0, 0, 0] = float("nan")
        return made


@pytest.mark.parametrize("quality", ["quick", "normal"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_layer_that_is_not_finite_is_named(quality, value):
    host = TinyHost()
    host.backbone.get_submodule(LAYER).weight.data[0, 0] = value
    before = state_of(host)
    with pytest.raises(TrainingFailed, match=f"layer {LAYER} holds numbers that are not finite"):
        run(host, config(quality=quality, closed_form=True))
    assert before["hooks"] == state_of(host)["hooks"]


def test_a_text_encoder_that_is_not_finite_is_told():
    with pytest.raises(TrainingFailed, match="text encoder gives numbers that are not finite"):
        run(Broken(), config(quality="quick", closed_form=True))


def test_every_layer_is_looked_at(monkeypatch):
    host = TinyHost()
    layers = {path: name for name, path in host.layers().items()}
    for at_once in (1, 3, 64):
        monkeypatch.setattr(finite, "AT_ONCE", at_once)
        check_layers(host.backbone, layers)
        for path in layers:
            weight = host.backbone.get_submodule(path).weight.data
            was = weight[-1, -1].clone()
            weight[-1, -1] = float("nan")
            with pytest.raises(TrainingFailed, match=path):
                check_layers(host.backbone, layers)
            weight[-1, -1] = was


def test_types_that_a_host_packs_are_let_pass():
    packed = torch.nn.ModuleDict({"a": torch.nn.Linear(2, 2)})
    packed["a"].weight = torch.nn.Parameter(torch.zeros(2, 2, dtype=torch.int8), requires_grad=False)
    check_layers(packed, {"a": "a"})


def test_a_matrix_that_cannot_be_taken_apart_is_a_sentence():
    with pytest.raises(TrainingFailed, match="cannot be solved for"), solved():
        torch.linalg.svd(torch.full((3, 3), float("nan")))
