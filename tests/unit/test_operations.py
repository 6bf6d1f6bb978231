"""Counted work: the benchmark's networks have the published sizes, and a step costs the same on a tall stack."""

import pytest

from benchmarks import flops
from benchmarks.sizes import UNETS
from tests.tiny import TinyHost
from tests.unit.runs import config, run, stack_on
from tests.unit.test_full_size_names import PARAMETERS, on_meta
from unlearn_core.method.training.loop import Trainer


@pytest.mark.parametrize("size", UNETS)
def test_the_benchmarks_networks_have_the_published_size(size):
    unet = on_meta(UNETS[size])
    assert sum(p.numel() for p in unet.parameters()) == PARAMETERS[size]


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
