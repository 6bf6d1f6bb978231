"""What a run does when the check's last look still finds the target: the next try, then training, then the best."""

import sys

import pytest

from tests.tiny import TinyHost
from tests.unit.runs import assert_same, config, run, state_of
from unlearn_core import Cancelled
from unlearn_core.evaluate.evaluator import Answers, Evaluator
from unlearn_core.method.attempts import unfinished
from unlearn_core.recipe import OBJECT

TRIES = len(OBJECT.tries)


def wish(**changes):
    return config(closed_form=True, **changes)


@pytest.fixture
def looks(monkeypatch):
    """Last looks answer with these shares of the target in turn, the last one for good; each try passes before.

    The fixture is (the shares, the shares that were given so far).
    """
    shares, given, plain = [], [], Evaluator.after

    def after(self):
        given.append(shares[min(len(given), len(shares) - 1)])
        found = plain(self)
        return Answers(given[-1], found.preserved, found.latents, found.prompts)

    monkeypatch.setattr(Evaluator, "after", after)
    monkeypatch.setattr(Evaluator, "still_generated", lambda *_: False)
    return shares, given


def test_a_last_look_that_succeeds_ends_the_run(looks):
    looks[0][:] = [0.05]
    report = run(TinyHost(), wish()).report
    assert looks[1] == [0.05] and report["preserve_scale"] == OBJECT.tries[0][0]


@pytest.mark.parametrize("failed", range(1, TRIES))
def test_after_a_last_look_that_fails_the_next_try_is_made(looks, failed):
    looks[0][:] = [0.3] * failed + [0.0]
    result = run(TinyHost(), wish())
    assert result.report["preserve_scale"] == OBJECT.tries[failed][0] and result.report["steps"] == 0
    assert len(looks[1]) == failed + 1 and result.report["check"]["forgotten_after"] == 1.0


def test_after_all_tries_it_trains_and_looks_once_more(looks):
    looks[0][:] = [0.3] * TRIES + [0.0]
    host, fractions = TinyHost(), []
    before = state_of(host)
    report = run(host, wish(), progress=lambda r: fractions.append(r.fraction)).report
    assert report["way"] == "training, 6 steps" and len(looks[1]) == TRIES + 1
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    assert_same(before, state_of(host))


def test_the_best_is_kept_where_nothing_is_enough(looks):
    looks[0][:] = [0.4, 0.2, 0.3, 0.9, 0.6]
    result = run(TinyHost(), wish())
    assert looks[1] == looks[0]
    assert result.report["check"]["forgotten_after"] == pytest.approx(0.8)
    assert result.report["way"] == "at once, without training"
    looks[0][:], looks[1][:] = [0.1, 0.9], []
    first = run(TinyHost(), wish()).delta
    looks[0][:], looks[1][:] = [0.0], []
    alone = run(TinyHost(), wish()).delta
    assert first.content_hash() == alone.content_hash()


def test_that_training_was_tried_is_known_where_its_result_is_not_taken(looks):
    looks[0][:] = [0.0]
    assert run(TinyHost(), wish()).report["tried_training"] is False
    looks[0][:], looks[1][:] = [0.3] * TRIES + [0.9], []
    report = run(TinyHost(), wish()).report
    assert report["steps"] == 0 and report["tried_training"] is True and not unfinished(report)


def test_what_harms_too_much_is_worse_than_what_is_left(looks, monkeypatch):
    looks[0][:] = [0.3, 0.0]
    monkeypatch.setattr(Evaluator, "gone", lambda *_: False)
    monkeypatch.setattr(
        "unlearn_core.method.attempts.too_harmful",
        lambda numbers, recipe: "harm" if numbers["forgotten_after"] == 1 else "",
    )
    assert run(TinyHost(), wish()).report["check"]["forgotten_after"] == pytest.approx(0.7)


def test_where_training_cannot_begin_the_best_is_kept_and_the_reason_told(looks, monkeypatch):
    looks[0][:] = [0.3]
    monkeypatch.setitem(sys.modules, "peft", None)
    result = run(TinyHost(), wish())
    assert result.report["preserve_scale"] == OBJECT.tries[0][0] and "pip install" in result.report["remark"]
    assert "pip install" in dict(result.summary())["Not tried further"] and unfinished(result.report)


def test_a_stop_on_the_way_keeps_what_was_looked_at(looks):
    looks[0][:] = [0.3]
    host = TinyHost()
    before = state_of(host)
    result = run(host, wish(), progress=lambda r: len(looks[1]) == 2)
    assert result.delta.info.stopped == "stopped before all was tried"
    assert result.report["check"]["forgotten_after"] == pytest.approx(0.7) and result.after is not None
    assert_same(before, state_of(host))
    looks[1].clear()
    with pytest.raises(Cancelled):
        run(host, wish(on_stop="discard"), progress=lambda r: len(looks[1]) == 2)
    assert_same(before, state_of(host))
