"""The race to one mark: when a trial ends, that counting takes no time, and that the model is as before afterwards."""

import json
from dataclasses import dataclass

import pytest
import torch

from benchmarks.against import (
    EVERY,
    HARMED,
    OURS,
    RIVALS,
    Counts,
    Monitor,
    Race,
    Trial,
    TrialEnded,
    clock_of,
    record,
    table,
)
from benchmarks.doc_results import against as documented
from benchmarks.sequences import Request
from unlearn_core.demo.recognition import CHECKPOINT
from unlearn_core.errors import BadSetting
from unlearn_core.recipe import SMALL
from unlearn_core.standalone.model import StandaloneModel


@dataclass
class Answers:
    """Answers by the number of the count, (UA, retention), and a clock: a second a step, a hundred a count."""

    answers: list
    asked: int = 0
    now: float = 0.0

    def ua(self, _):
        self.asked += 1
        self.now += 100
        return self.answers[min(self.asked, len(self.answers)) - 1][0]

    def preserved(self, _):
        return self.answers[min(self.asked, len(self.answers)) - 1][1]


def ended(answers, limit=1e9):
    """The monitor after a trial whose counts give these answers."""
    counts = Answers(answers)
    monitor = Monitor(None, counts, limit, lambda: counts.now)
    with pytest.raises(TrialEnded):
        for _ in range(1000):
            counts.now += 1
            monitor.tick(0.0)
    return monitor


def test_a_trial_ends_at_the_mark_and_counting_takes_no_time():
    monitor = ended([(0.5, 1.0), (0.98, 0.9), (0.9, 1.0), (1.0, 0.96)])
    assert monitor.steps == monitor.seconds == 4 * EVERY and (monitor.ua, monitor.preserved) == (1.0, 0.96)
    assert monitor.counts.asked == 4


def test_a_trial_ends_when_the_rest_is_lost_or_the_time_is_up():
    assert ended([(0.5, 1.0), (1.0, 0.5)]).steps == (1 + HARMED) * EVERY
    late = ended([(0.5, 0.7)], limit=EVERY + 2.5)
    assert (late.steps, late.seconds, late.ua, late.preserved) == (EVERY + 3, EVERY + 3, 0.5, 0.7)


@pytest.fixture(scope="module")
def race():
    """*banana* on the demo model, few pictures of each."""
    host = StandaloneModel(CHECKPOINT)
    return Race(host, Counts.make(host, Request("banana"), 8, 1), recipes=SMALL)


@pytest.mark.full
def test_a_trial_on_the_demo_model_leaves_it_as_it_was(race):
    host = race.host
    before = {n: t.clone() for n, t in host.backbone.state_dict().items()}
    with pytest.raises(BadSetting, match="unicorn"):
        Counts.make(host, Request("unicorn"), 8, 1)
    assert race.counts.ua(host) <= 0.25 and race.counts.preserved(host) == 1.0
    for spec, _ in RIVALS.values():
        monitor = Monitor(host, race.counts, 0.0, clock_of(host.device))
        race.learn(spec + "+batch=1" if ":" in spec else spec + ":batch=1", monitor.tick)
        assert monitor.steps == 1 and monitor.seconds > 0 and monitor.preserved > 0.9
        after = host.backbone.state_dict()
        assert before.keys() == after.keys() and all(torch.equal(t, after[n]) for n, t in before.items())


def test_the_table_holds_each_time_against_ours():
    ours = [Trial("ours", "ours:quality=quick", 2.0, 0, 1.0, 0.99), Trial("ours", "ours", 20.0, 0, 1.0, 0.99)]
    head, rule, bare, whole, theirs = table([*ours, Trial("ESD", "esd-lora", 70.0, 90, 0.5, 0.0)]).splitlines()
    assert head.count("|") == rule.count("|")
    assert bare == "| ours | `ours:quality=quick` | 0 | 2.0 | 1.0 | 0.1 | 100.0% | 99.0% | at the mark |"
    assert whole == "| ours | `ours` | 0 | 20.0 | 10.0 | 1.0 | 100.0% | 99.0% | at the mark |"
    assert theirs == "| ESD | `esd-lora` | 90 | 70.0 | 35.0 | 3.5 | 50.0% | - | not reached |"


def test_what_is_recorded_is_what_the_documentation_shows(tmp_path):
    ours = [Trial("ours", spec, seconds, 0, 1.0, 0.99) for spec, seconds in zip(OURS, (2.0, 20.0), strict=True)]
    trials = [*ours, Trial("ESD", "esd-lora", 70.0, 90, 0.5, 0.0)]
    record(trials, ("abc1234", "python -m benchmarks against"), torch.device("cpu"), tmp_path / "against.json")
    lines = documented(json.loads((tmp_path / "against.json").read_text()))
    assert lines[2] == "| ours | `ours:quality=quick` | 0 | 2 | 1.0 | 0.1 | 100 % | 99 % | at the mark | 1 |"
    assert lines[4] == "| ESD | `esd-lora` | 90 | 70 | 35.0 | 3.5 | 50 % |  | not reached | 1 |"
    assert "abc1234; seconds of processor time" in lines[-1]


@pytest.mark.full
def test_the_product_is_run_first_without_and_then_with_its_check(race):
    told = []
    bare, whole = trials = Race(race.host, race.counts, {}, SMALL).run(told.append)
    assert (bare.spec, whole.spec) == OURS and told == trials
    assert bare.reached and whole.reached and bare.steps == 0 and 0 < bare.seconds < whole.seconds
