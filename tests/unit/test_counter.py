"""Bars of work that is counted: how much there is in all."""

import pytest
import torch

from tests.tiny import TinyHost
from unlearn_core.cli.progress_bar import Counter
from unlearn_core.sampling import Sampler


def test_a_sampler_says_how_often_it_ticks():
    seen, host = [], TinyHost()
    sampler = Sampler(host, 3, 2.0, lambda: seen.append(1), batch=2)
    sampler.draw(host.encode(["a cat", "a dog", "a bus", "a fox", "a car"]), 0)
    assert len(seen) == sampler.ticks(5) == 9


def test_a_counter_with_a_total_ends_at_it(capsys):
    with Counter("drawing", 40) as counter:
        counter.tick()
    assert "40/40" in capsys.readouterr().err


def test_a_counter_without_a_total_counts(capsys):
    with Counter("checking") as counter:
        counter.tick()
    assert "1 steps" in capsys.readouterr().err.rsplit("\r", 1)[-1]


def test_a_counter_that_fails_says_where(capsys):
    with pytest.raises(RuntimeError), Counter("drawing", 40) as counter:
        counter.tick()
        torch.zeros(2) @ torch.zeros(3)
    assert "40/40" not in capsys.readouterr().err
