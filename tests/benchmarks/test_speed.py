"""What a step and a run cost: the real training step is measured, all time is booked, the model is as before."""

import json
import re
from dataclasses import replace

import pytest
import torch

from benchmarks import gpu, speed
from benchmarks.__main__ import main
from benchmarks.gpu import Stopwatch
from benchmarks.phases import bits, sum_of_bits
from benchmarks.speed import TALL, StepBench, random_stack
from tests.benchmarks.least import LEAST
from tests.tiny import TinyHost
from unlearn_core import ForgetConfig
from unlearn_core.method.training.loop import Trainer
from unlearn_core.recipe import DEFAULT


def config(**values):
    return ForgetConfig.from_flat({"concept": "banana", "steps": 4, "batch": 2, "sampling_steps": 2, **values})


def test_the_step_that_is_measured_is_the_products_own(monkeypatch):
    host, made, make = TinyHost(), [], Trainer.make

    def counted(self, step, *rest):
        made.append(step.number)
        return make(self, step, *rest)

    monkeypatch.setattr(Trainer, "make", counted)
    before = bits(host.backbone)
    bench = StepBench(host, config(), rounds=1, warm=1, tall=3)
    found = bench.measure()
    assert made == [1, 2, 3, 4] * 2 and len(bench.stamps) == 5
    assert found.step > 0 and found.bare > 0 and found.tall > 0 and found.operations > 0
    assert bits(host.backbone) == before


def test_the_measured_training_has_a_penalty_and_a_stack():
    host = TinyHost()
    bench = StepBench(host, config(), rounds=1, tall=3)
    with bench.ready(bench.high) as trainer:
        (penalty,) = trainer.penalties
        assert penalty.moved.keys() == trainer.adapters.factors.keys()
        assert len(trainer.run.request.earlier) == 3


def test_the_measured_stack_changes_what_training_changes_and_no_more():
    """On all layers of SDXL it took four gigabytes more."""
    host = TinyHost()
    layers, bench = host.layers(), StepBench(host, config(), rounds=1, tall=2)
    with bench.ready(bench.low) as trainer:
        adapted = {*trainer.adapters.factors}
    for stack in (bench.low, bench.high):
        assert all({layers[name] for name in entry.delta.factors} == adapted for entry in stack)
    assert len(adapted) < len({*layers.values()})


def test_a_random_stack_is_as_tall_as_it_is_asked_for():
    host = TinyHost()
    stack = random_stack(host, ["blocks.0.attn2.to_k"], 5)
    assert len(stack.concepts()) == 5 and all(len(e.delta.factors) == 1 for e in stack.entries)


@pytest.mark.full
def test_the_speed_command_tells_time_work_and_memory(capsys):
    options = ["--device", "cpu", "--set", "batch=1", "--set", "steps=4", "--resolution", "64"]
    assert main(["speed", *options]) == 0
    told = dict(re.split(r"  +", line, maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert float(told["seconds per step"]) >= float(told["bare passes"]) * 0.5 > 0
    assert told["pictures"] == "64 x 64" and "1 forget + 1 replay" in told["batch"]
    assert float(told["operations"].split()[0]) > 0 and "MB" in told["memory"]
    assert f"on a stack of {TALL}" in told


def test_the_profile_command_tells_where_time_and_memory_go(capsys, monkeypatch):
    monkeypatch.setattr(speed.Subject, "host", lambda self: TinyHost())
    for kind, small in LEAST.items():
        monkeypatch.setitem(DEFAULT, kind, small)
    assert main(["profile", "--device", "cpu", "--set", "sampling_steps=2", "--set", "anchor=pear"]) == 0
    told = capsys.readouterr().out
    assert re.search(r"weights afterwards +the same bits", told) and "choosing" in told


def test_a_phase_inside_another_is_not_part_of_it(monkeypatch):
    now = iter(range(100))
    monkeypatch.setattr(gpu.time, "perf_counter", lambda: next(now))
    watch = Stopwatch(torch.device("cpu"))
    with watch.phase("outer"), watch.phase("inner"):
        pass
    with watch.phase("inner"):
        pass
    assert watch.seconds == {"outer": 2, "inner": 2}


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.float64])
def test_every_bit_and_its_place_counts_in_the_sum(kind):
    numbers = torch.tensor([1.0, 2.0, -3.0]).to(kind)
    swapped, other = numbers[[1, 0, 2]], torch.tensor([1.0, 2.0, 3.0]).to(kind)
    assert len({sum_of_bits(n) for n in (numbers, swapped, other)}) == 3
    assert sum_of_bits(numbers) == sum_of_bits(numbers.clone())


@pytest.mark.parametrize("group", [0, 2])
@pytest.mark.parametrize("model", ["tiny", pytest.param("demo", marks=pytest.mark.full)])
def test_the_gpu_check_runs_a_whole_request_and_leaves_the_model(model, group, tmp_path, monkeypatch, capsys):
    for kind, least in LEAST.items():
        monkeypatch.setitem(DEFAULT, kind, replace(least, group=group))
    monkeypatch.setitem(gpu.SIDES, "demo", 64)
    if model == "tiny":
        monkeypatch.setattr(gpu, "StandaloneModel", lambda *_, **__: TinyHost())
    out = ["--out", str(tmp_path), "--size", "demo", "--device", "cpu", "--steps", "2"]
    assert main(["gpu", *out]) == 0
    facts = json.loads((tmp_path / "gpu.json").read_text("utf-8"))["demo"]
    assert set(facts["seconds"]) == {"anchor", "check", "closed form", "training", "pictures"} == set(facts["peak_mb"])
    assert facts["steps"] == 2 and facts["seconds a step"] > 0 and facts["side"] == {"tiny": 32, "demo": 64}[model]
    assert facts["model bits unchanged"] is True and "verdict" in facts["check"]
    assert re.search(r"demo: \d+ CPU threads", capsys.readouterr().out)
