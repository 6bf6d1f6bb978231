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
    Count,
    Counts,
    Monitor,
    Race,
    Trial,
    TrialEnded,
    clock_of,
    raced,
    record,
)
from benchmarks.doc_results import against as documented
from benchmarks.race_table import standings
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
        self.now += 100
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


def test_a_trial_goes_on_at_the_mark_and_counting_takes_no_time():
    monitor = ended([(0.5, 1.0), (0.98, 0.9), (0.9, 1.0), (1.0, 0.96), (1.0, 0.9)], limit=5 * EVERY + 0.5)
    assert monitor.seconds == 5 * EVERY + 1 == monitor.steps and monitor.counts.asked == 5
    found = [(c.steps, c.ua, c.preserved) for c in monitor.found]
    assert found[:2] == [(EVERY, 0.5, None), (2 * EVERY, 0.98, 0.9)], "what stays counts where the target is gone"
    assert [c.steps for c in monitor.found if c.reached] == [4 * EVERY]


def test_a_trial_ends_when_the_rest_is_lost_or_the_time_is_up():
    assert ended([(0.5, 1.0), (1.0, 0.5)]).steps == (1 + HARMED) * EVERY
    late = ended([(0.5, 0.7)], limit=EVERY + 2.5)
    assert (late.steps, late.seconds, len(late.found)) == (EVERY + 3, EVERY + 3, 1)


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
        assert monitor.steps == 1 and monitor.seconds > 0 and monitor.found == []
        after = host.backbone.state_dict()
        assert before.keys() == after.keys() and all(torch.equal(t, after[n]) for n, t in before.items())


def row(concept, name, method, steps, seconds, *at_mark):
    """A trial as it is kept."""
    ran = {"steps": steps, "seconds": seconds, "at_mark": list(at_mark)}
    return {"concept": concept, "name": name, "method": method, **ran, "ua": 1.0, "retention": None}


def rows():
    """Two concepts; a step takes half a second."""
    made = []
    for concept, fast, slow in (("cat", (20, 40), (80,)), ("dog", (40,), (60, 80))):
        made += [row(concept, "ours", OURS[0], 0, 2.0, 0), row(concept, "ours", OURS[1], 0, 10.0, 0)]
        made += [row(concept, "ESD", "fast", 100, 50.0, *fast), row(concept, "ESD", "slow", 80, 40.0, *slow)]
        made.append(row(concept, "LECO", "never", 60, 30.0))
    return made


def test_steps_are_chosen_beforehand_for_all_concepts_or_each_is_stopped_when_it_is_there():
    quick, whole, fast, slow, stopped, never, nowhere = standings(rows())
    assert (quick.seconds, whole.seconds, whole.reached) == (2.0, 10.0, 2)
    assert (fast.steps, fast.seconds, fast.reached) == (40, 20.0, 2), "20 steps bring one of them, 40 both"
    assert (slow.steps, slow.seconds, slow.reached) == (80, 40.0, 2)
    assert (stopped.steps, stopped.seconds, stopped.reached) == (None, 15.0, 2), "10 s for the cat, 20 for the dog"
    assert never.reached == nowhere.reached == 0


def test_what_is_recorded_is_what_the_documentation_shows(tmp_path):
    host = StandaloneModel(CHECKPOINT, half=False)
    record(rows(), ("abc1234", "python -m benchmarks against"), host, tmp_path / "against.json")
    lines = documented(json.loads((tmp_path / "against.json").read_text()))
    assert lines[2] == "| ours | `ours:quality=quick` | 0 | 2 of 2 | 2 | 0.2 |"
    assert lines[4] == "| ESD | `fast` | 40 | 2 of 2 | 20 | 2.0 |"
    assert lines[6] == "| ESD | the best of these for each concept | when it is there | 2 of 2 | 15 | 1.5 |"
    assert lines[7] == "| LECO | `never` |  | 0 of 2 |  |  |"
    assert "abc1234; float32; seconds of processor time" in lines[-1]


def test_a_trial_is_kept_with_its_marks_and_last_count():
    trial = Trial("ESD", "esd-lora", 45, 9.0, (Count(20, 0.98, 0.96), Count(40, 1.0, 0.9)))
    kept = trial.row("cat")
    assert kept["at_mark"] == [20] and (kept["ua"], kept["retention"], kept["steps"]) == (1.0, 0.9, 45)
    assert Trial("ESD", "esd-lora", 3, 9.0, ()).row("cat")["ua"] is None


def test_a_concept_that_was_raced_is_taken_from_its_file(tmp_path):
    (tmp_path / "cat.json").write_text(json.dumps(rows()[:5]))
    assert raced(None, "cat", tmp_path, print) == rows()[:5]


@pytest.mark.full
def test_the_product_is_run_first_without_and_then_with_its_check(race):
    told, kept = [], race.host.cache_folder
    bare, whole = trials = Race(race.host, race.counts, {}, SMALL).run(told.append)
    assert (bare.spec, whole.spec) == OURS and told == trials
    assert bare.marks == whole.marks == [0] and 0 < bare.seconds < whole.seconds
    assert race.host.cache_folder == kept
