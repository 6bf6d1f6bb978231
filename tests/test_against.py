"""The race to one mark: when a trial ends, that counting takes no time, and that the model is as before afterwards."""

from dataclasses import dataclass

import pytest
import torch

from benchmarks import against
from benchmarks.against import EVERY, HARMED, Over, Paper, Trial, Watch, table
from benchmarks.sequences import Request
from unlearn_core.demo.recognition import CHECKPOINT
from unlearn_core.errors import BadSetting
from unlearn_core.standalone.model import StandaloneModel


@dataclass
class Counts:
    """Answers by the number of the count, (UA, retention), and a clock: a second a step, a hundred a count."""

    answers: list
    asked: int = 0
    now: float = 0.0

    def ua(self, _):
        self.asked += 1
        self.now += 100
        return self.answers[min(self.asked, len(self.answers)) - 1][0]

    def kept(self, _):
        return self.answers[min(self.asked, len(self.answers)) - 1][1]


def ended(answers, limit=1e9):
    """The watch after a trial whose counts give these answers."""
    counts = Counts(answers)
    watch = Watch(None, counts, limit, lambda: counts.now)
    with pytest.raises(Over):
        for _ in range(1000):
            counts.now += 1
            watch.tick(0.0)
    return watch


def test_a_trial_ends_at_the_mark_and_counting_takes_no_time():
    watch = ended([(0.5, 1.0), (0.98, 0.9), (0.9, 1.0), (1.0, 0.96)])
    assert watch.steps == watch.seconds == 4 * EVERY and (watch.ua, watch.kept) == (1.0, 0.96)
    assert watch.paper.asked == 4


def test_a_trial_ends_when_the_rest_is_lost_or_the_time_is_up():
    assert ended([(0.5, 1.0), (1.0, 0.5)]).steps == (1 + HARMED) * EVERY
    late = ended([(0.5, 0.7)], limit=EVERY + 2.5)
    assert (late.steps, late.seconds, late.ua, late.kept) == (EVERY + 3, EVERY + 3, 0.5, 0.7)


def test_a_trial_on_the_demo_model_leaves_it_as_it_was(monkeypatch):
    monkeypatch.setattr(against, "PICTURES", 8)
    monkeypatch.setattr(against, "KEPT_PICTURES", 1)
    host = StandaloneModel(CHECKPOINT)
    before = {n: t.clone() for n, t in host.backbone.state_dict().items()}
    with pytest.raises(BadSetting, match="unicorn"):
        Paper.make(host, Request("unicorn"))
    paper = Paper.make(host, Request("banana"))
    assert paper.ua(host) <= 0.25 and paper.kept(host) == 1.0
    for spec, _ in against.RIVALS.values():
        watch = Watch(host, paper, 0.0, against.clock_of(host.device))
        against.run(spec + "+batch=1" if ":" in spec else spec + ":batch=1", host, Request("banana"), watch.tick)
        assert watch.steps == 1 and watch.seconds > 0 and watch.kept > 0.9
        after = host.backbone.state_dict()
        assert before.keys() == after.keys() and all(torch.equal(t, after[n]) for n, t in before.items())


def test_the_table_holds_each_time_against_ours():
    ours = [Trial("ours", "ours:check=no", 2.0, 0, 1.0, 0.99), Trial("ours", "ours", 20.0, 0, 1.0, 0.99)]
    head, rule, bare, whole, theirs = table([*ours, Trial("ESD", "esd-lora", 70.0, 90, 0.5, 0.0)]).splitlines()
    assert head.count("|") == rule.count("|")
    assert bare == "| ours | `ours:check=no` | 0 | 2.0 | 1.0 | 0.1 | 100.0% | 99.0% | at the mark |"
    assert whole == "| ours | `ours` | 0 | 20.0 | 10.0 | 1.0 | 100.0% | 99.0% | at the mark |"
    assert theirs == "| ESD | `esd-lora` | 90 | 70.0 | 35.0 | 3.5 | 50.0% | - | not reached |"


def test_the_product_is_run_first_without_and_then_with_its_judge(monkeypatch):
    monkeypatch.setattr(against, "demo_model", lambda device: StandaloneModel(CHECKPOINT))
    monkeypatch.setattr(against, "RIVALS", {})
    monkeypatch.setattr(against, "PICTURES", 8)
    monkeypatch.setattr(against, "KEPT_PICTURES", 1)
    asked, method = [], against.method

    def unjudged(spec):
        """The judged run takes minutes."""
        asked.append(spec)
        return method("ours:check=no")

    monkeypatch.setattr(against, "method", unjudged)
    bare, whole = against.measure("cpu", "banana")
    assert asked == [bare.spec, whole.spec] == ["ours:check=no", "ours"]
    assert bare.reached and bare.steps == 0 and bare.seconds > 0
