"""Time left by a clock of the test: it falls, stands while a counter stands, and is 0 at the end."""

import random

import pytest

from unlearn_core import progress
from unlearn_core.progress import CORRECTION, PATIENCE, Estimate, Tracker


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


@pytest.mark.parametrize("seed", range(5))
def test_with_the_usual_unevenness_the_estimate_only_falls(clock, seed):
    chance, heard = random.Random(seed), []
    tracker = Tracker({"before": 20.0, "training": 80.0}, heard.append)
    for phase, ticks in (("before", 20), ("training", 80)):
        tracker.start(phase, ticks)
        for _ in range(ticks):
            for _ in range(24):
                clock.now += chance.uniform(0.75, 1.25) / 24
                tracker.pulse()
            tracker.tick()
    tracker.finish()
    told = [r for r in heard if r.seconds_left is not None]
    left = [r.seconds_left for r in told]
    assert left == sorted(left, reverse=True) and left[-1] == 0.0
    # and it is right
    assert all(abs(r.seconds + r.seconds_left - 100) < 25 for r in told)


def test_while_a_counter_stands_no_time_is_added(clock):
    heard = []
    tracker = Tracker({"training": 10.0}, heard.append)
    tracker.start("training", 10)
    for _ in range(3):
        clock.now += 1.0
        tracker.tick()
    before = heard[-1].seconds_left
    for _ in range(500):
        clock.now += 1.0
        tracker.pulse()
    assert max(r.seconds_left for r in heard[-500:]) <= before


def test_an_estimate_that_was_far_too_low_is_corrected_when_a_unit_ends():
    estimate = Estimate()
    assert estimate.left(0.1, 1.0, True) == pytest.approx(9.0)
    assert estimate.left(0.2, 30.0, False) == pytest.approx(9.0)
    assert estimate.left(0.2, 30.0, True) == pytest.approx(120.0)
    assert estimate.left(0.3, 30.0 * CORRECTION, True) == pytest.approx(105.0)


def test_an_estimate_does_not_stand_still_for_long():
    estimate = Estimate()
    assert estimate.left(0.1, 10.0, True) == pytest.approx(90.0)
    assert estimate.left(0.15, 10.0 + PATIENCE - 2, True) == pytest.approx(90.0), "unevenness"
    assert estimate.left(0.16, 10.0 + PATIENCE + 1, True) == pytest.approx(21 * 0.84 / 0.16), (
        "slower work is a fact by now"
    )


def test_nothing_is_said_before_anything_is_known_and_nothing_is_left_at_the_end():
    estimate = Estimate()
    assert estimate.left(0.0, 5.0, True) is None and estimate.left(0.02, 5.0, True) is None
    assert estimate.left(1.0, 5.0, False) == 0.0


def test_more_to_do_than_planned_is_a_new_estimate(clock):
    heard = []
    tracker = Tracker({"before": 1.0}, heard.append)
    tracker.start("before", 1)
    clock.now += 10.0
    tracker.tick()
    assert heard[-1].seconds_left == 0.0
    tracker.extend({"training": 9.0})
    tracker.start("training", 9)
    assert heard[-1].seconds_left == pytest.approx(90.0)
