"""The memory of a training: what a pass keeps, plans that fit a budget, and smaller ones when it is full."""

from types import SimpleNamespace

import pytest
import torch

from tests.tiny import TinyHost
from tests.unit.runs import config, run
from unlearn_core import UnlearnError
from unlearn_core.device_memory import GIB, ON_A_CPU
from unlearn_core.method.training import memory
from unlearn_core.method.training.checkpointing import blocks
from unlearn_core.method.training.memory import Cost, Pace, budget_of, measure, plans, rows_at_once


def full(*_):
    raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")


def test_a_counted_pass_keeps_what_autograd_keeps():
    layer = torch.nn.Linear(4, 4).requires_grad_(False)
    x = torch.zeros(8, 4, requires_grad=True)
    # sigmoid keeps its result, the frozen layer only its own weight
    assert measure(lambda: layer(x).sigmoid(), layer).kept == 8 * 4 * 4

    def brought_back():
        layer.weight.data, layer.bias.data = layer.weight.data.clone(), layer.bias.data.clone()
        return layer(x).sigmoid()

    assert measure(brought_back, layer).kept == 8 * 4 * 4, "a host may move its weights before the pass begins"


def test_plans_go_from_fast_to_small_and_keep_the_batch():
    made = plans(Cost(GIB, GIB // 8, 0), 8, 0, False, companions=2 * GIB)
    assert (made[0].pairs, made[0].passes, made[0].checkpointing, made[0].offload) == (8, 1, False, False)
    assert (made[-1].pairs, made[-1].passes, made[-1].checkpointing, made[-1].offload) == (1, 8, True, True)
    assert all(p.pairs * p.passes >= 8 for p in made)
    assert all(p.checkpointing for p in plans(Cost(1, 1, 1), 8, 0, True, 0))


@pytest.mark.parametrize("gib, pairs, again", [(100, 8, False), (11, 4, False), (3, 1, False), (1, 1, True)])
def test_the_first_plan_that_fits_is_taken(gib, pairs, again):
    plan = Pace(TinyHost(), plans(Cost(GIB, GIB // 8, 0), 8, 0, False, 0), gib * GIB).plan
    if again:
        assert plan.checkpointing and plan.needed <= gib * GIB
    else:
        assert (plan.pairs, plan.checkpointing) == (pairs, False)
    assert f"of {gib:.1f} GiB" in plan.sentence()


def test_a_full_memory_leads_to_smaller_plans_and_an_end_in_words():
    pace, undone = Pace(TinyHost(), plans(Cost(GIB, GIB // 8, 0), 4, 0, False, 0), None), []
    tried = []

    def step(plan):
        tried.append(plan.needed)
        return "done" if len(tried) == 3 else full()

    assert pace.attempt(step, lambda: undone.append(1)) == "done"
    assert tried == sorted(tried, reverse=True) and len(set(tried)) == 3 and len(undone) == 2
    with pytest.raises(UnlearnError, match="smaller resolution"):
        pace.attempt(full, lambda: None)
    with pytest.raises(RuntimeError, match="other"):
        pace.attempt(lambda _: (_ for _ in ()).throw(RuntimeError("other")), lambda: None)


class Crowded(TinyHost):
    """Has room for three rows."""

    def denoise(self, x, sigma, conditioning):
        return full() if len(x) > 3 else super().denoise(x, sigma, conditioning)


def test_blocks_are_the_innermost_members_of_lists():
    backbone = TinyHost().backbone
    assert blocks(backbone) == list(backbone.blocks)
    nested = torch.nn.ModuleList([torch.nn.Sequential(backbone.blocks[0], torch.nn.Linear(1, 1))])
    assert blocks(nested) == [backbone.blocks[0]]


def test_a_budget_is_what_is_free_or_what_the_artist_gives(monkeypatch):
    host = TinyHost()
    own = sum(p.numel() * p.element_size() for p in host.backbone.parameters())
    monkeypatch.setattr(memory, "free_bytes", lambda _: 10 * GIB)
    assert budget_of(host, host.backbone, 0.0) == 9 * GIB
    assert budget_of(host, host.backbone, 2.0) == 2 * GIB - own
    assert budget_of(host, host.backbone, 100.0) == 9 * GIB
    monkeypatch.setattr(memory, "free_bytes", lambda _: None)
    assert budget_of(host, host.backbone, 0.0) is None and budget_of(host, host.backbone, 2.0) == 2 * GIB - own


@pytest.mark.parametrize(
    "device, budget, working, rows",
    [
        ("cpu", None, 10, ON_A_CPU),
        ("cpu", 20 * ON_A_CPU, 10, ON_A_CPU),
        ("cpu", 70, 10, 7),
        ("cpu", -5, 10, 1),
        ("cpu", 70, 0, ON_A_CPU),
        ("cuda", None, 10, None),
        ("cuda", 20 * ON_A_CPU, 10, 2 * ON_A_CPU),
    ],
)
def test_rows_of_a_pass_without_gradient(monkeypatch, device, budget, working, rows):
    """A CPU takes no more than save time."""
    monkeypatch.setattr(memory, "budget_of", lambda *_: budget)
    assert rows_at_once(SimpleNamespace(device=torch.device(device)), None, Cost(0, 0, working), 0.0) == rows


def test_a_run_survives_a_full_memory_and_keeps_its_batch():
    host = Crowded()
    crowded, plain = run(host, config()), run(TinyHost(), config())
    assert crowded.report["steps"] == plain.report["steps"]
    assert "2 passes of 1" in crowded.report["memory"] and "one pass of 2" in plain.report["memory"]
    for name, factor in plain.delta.factors.items():
        assert torch.allclose(factor.up, crowded.delta.factors[name].up, atol=1e-4)
