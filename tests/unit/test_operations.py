"""What the speed benchmark counts: operations, the published sizes, and where the time of a run goes."""

import pytest
import torch

from benchmarks import flops
from benchmarks.phases import phases
from benchmarks.sizes import NARROW, UNETS, random_networks
from tests.tiny import TinyHost
from tests.unit.runs import config, run, stack_on
from tests.unit.test_full_size_names import PARAMETERS, on_meta
from unlearn_core.evaluate.stepwise import StepwiseEvaluator
from unlearn_core.method.training.loop import Trainer
from unlearn_core.standalone.model import StandaloneModel


@pytest.mark.parametrize("size", sorted(PARAMETERS.keys() & UNETS.keys()))
def test_the_benchmarks_networks_have_the_published_size(size):
    unet = on_meta(UNETS[size])
    assert sum(p.numel() for p in unet.parameters()) == PARAMETERS[size]


def test_the_narrow_network_has_the_layout_of_sdxl_and_both_text_encoders():
    host = StandaloneModel(random_networks(NARROW), resolution=64)
    assert host.architecture == "sdxl" and len(host.encoders) == 2
    assert dict(host.backbone.named_parameters()).keys() <= dict(on_meta(UNETS["sdxl"]).named_parameters()).keys()
    assert host.encode(["a banana"]).tokens.shape == (1, 77, UNETS[NARROW]["cross_attention_dim"])


def test_operations_of_a_product_and_of_attention():
    layer, x = torch.nn.Linear(16, 8, bias=False), torch.randn(4, 16, requires_grad=True)
    assert flops.counted(lambda: layer(x)) == 2 * 4 * 16 * 8
    assert flops.counted(lambda: layer(x).sum().backward()) == 3 * 2 * 4 * 16 * 8
    q = torch.randn(1, 2, 5, 8)
    with torch.no_grad():
        assert flops.counted(lambda: torch.nn.functional.scaled_dot_product_attention(q, q, q)) == 2 * 2 * 2 * 5 * 5 * 8


def operations_of_a_step(monkeypatch, height):
    """Of the second training step on a stack."""
    counted, make, host = [], Trainer.make, TinyHost()

    def counting(self, *given):
        losses = []
        counted.append(flops.counted(lambda: losses.append(make(self, *given))))
        return losses[0]

    monkeypatch.setattr(Trainer, "make", counting)
    run(host, config(steps=2), stack_on(host, *({"concept": f"thing {i}"} for i in range(height))))
    return counted[1]


def test_a_step_costs_the_same_on_a_stack_of_twenty(monkeypatch):
    one = operations_of_a_step(monkeypatch, 1)
    monkeypatch.undo()
    assert one > 0 and operations_of_a_step(monkeypatch, 20) == one


def test_all_time_of_a_run_is_booked(monkeypatch):
    # the closed form is tried and not enough, so that there is time of every kind
    monkeypatch.setattr(StepwiseEvaluator, "still_generated", lambda *_: True)
    seconds, steps = phases(TinyHost(), config(closed_form=True))
    assert steps == 6 and set(seconds) == {"sampling", "choosing", "editing", "training", "checking", "preview"}
    assert all(t > 0 for t in seconds.values())
