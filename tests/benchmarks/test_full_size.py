"""Full-size networks with random weights, end to end in float32 on the CPU: minutes and gigabytes, so only when asked.

    UNLEARN_FULL_SIZE=1 python -m pytest -s tests/test_full_size.py

A run has all its parts, each with as few pictures as there can be: the sizes of the networks, of the pictures (256
pixels), of the batch and of what the text guard reads are the real ones.
"""

import os
import time

import pytest
import torch

from benchmarks import speed
from benchmarks.memory import now_mb, peak_mb, start_peak
from benchmarks.phases import bits, phases
from benchmarks.sizes import random_networks
from unlearn_core import ForgetConfig
from unlearn_core.device_memory import GIB, free_bytes
from unlearn_core.standalone.model import StandaloneModel

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("UNLEARN_FULL_SIZE" not in os.environ, reason="takes minutes and up to 24 GB"),
    pytest.mark.timeout(7200),
]

FEW = {
    "train.FORGET_PROMPTS": {"object": 4},
    "train.SENTENCES": {"object": 4},
    "train.JUDGED": 2,
    "train.PROBED": 1,
    "train.KEPT_NEAR": 1,
    "train.KEPT_FAR": 1,
    "choice.SIEVE": 2,
    "choice.LEVELS": 2,
    "judge.ROUNDS": 1,
    "judge.LEVELS": (0.5,),
    "replay.NEAR": 1,
    "replay.FAR": 2,
}
"""Counts of prompts, pictures and noise levels in place of the product's own."""
SIDE, GROWTH, ROOM_MB = 256, 0.35, 24_000
WISH = {"concept": "banana", "anchor": "lemon", "steps": 3, "batch": 1, "sampling_steps": 2}
WISH |= {"guidance": 1.0, "closed_form": False}


def loaded(size):
    """A full-size model on the CPU, and the process's memory with it; skips where there is no room."""
    need = {"sd15": 8, "sdxl": 18}[size]
    if (free_bytes(torch.device("cpu")) or 0) < need * GIB:
        pytest.skip(f"needs {need} GiB of free memory")
    host = StandaloneModel(random_networks(size), "cpu", SIDE, half=False)
    start_peak()
    return host, now_mb()


def told(size, before, seconds, what):
    """Print the numbers that the documentation records; gives the growth."""
    growth = peak_mb() / before - 1
    print(f"\n{size}: {before:.0f} MB loaded, at most {peak_mb():.0f} MB, {growth:+.1%}, {seconds:.0f} s; {what}")
    return growth


@pytest.mark.parametrize("way", ["trained", "in one go"])
def test_sd15_forgets_end_to_end(monkeypatch, way):
    for name, value in FEW.items():
        monkeypatch.setattr(f"unlearn_core.{name}", value)
    host, before = loaded("sd15")
    weights, start = bits(host.backbone), time.perf_counter()
    spent, steps = phases(host, ForgetConfig.from_flat(WISH | {"closed_form": way == "in one go"}))
    growth = told("sd15", before, time.perf_counter() - start, {k: round(v) for k, v in spent.items()})
    # whether random weights still draw what the judge takes for the target is chance: then steps follow the edit
    assert steps == WISH["steps"] or (way == "in one go" and steps == 0)
    absent = {kind for kind, here in (("editing", way == "in one go"), ("training", steps)) if not here}
    assert {kind for kind, t in spent.items() if t == 0} == absent
    assert bits(host.backbone) == weights
    assert growth <= GROWTH


def test_sdxl_makes_a_training_step(monkeypatch):
    for name, value in {"ROUNDS": 1, "WARM": 0, "TALL": 2}.items():
        monkeypatch.setattr(speed, name, value)
    host, before = loaded("sdxl")
    weights, start = bits(host.backbone), time.perf_counter()
    found = speed.Bench(host, ForgetConfig.from_flat(WISH | {"steps": 1})).measure()
    told("sdxl", before, time.perf_counter() - start, found)
    assert found.step > 0 and found.operations > 0
    assert bits(host.backbone) == weights
    assert peak_mb() < ROOM_MB
