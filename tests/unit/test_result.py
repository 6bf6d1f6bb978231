"""What a run gives to whoever shows it: the way in words, rows of a summary, plain values."""

import json

import pytest

from tests.tiny import TinyHost
from tests.unit.runs import config, run, stack_on
from unlearn_core.method.fit import Fit
from unlearn_core.method.forget import summary

REPORT = {
    "concept": "banana",
    "anchor": "pear",
    "reason": "given by the artist",
    "way": "closed form, preserve scale 30",
    "stack": [],
    "stopped": "",
    "seconds": 12.4,
    "check": {
        "forgotten_before": 0.1,
        "forgotten_after": 0.95,
        "preserved_before": 1.0,
        "preserved_after": 0.876,
        "verdict": "forgotten, the rest preserved",
    },
}


@pytest.mark.parametrize(
    "fit, words",
    [
        (Fit({}, 30.0), "closed form, preserve scale 30"),
        (Fit({}, 2.5), "closed form, preserve scale 2.5"),
        (Fit({}, 0.0, 120, 9.0, "one pass"), "training, 120 steps"),
    ],
)
def test_the_way_in_words(fit, words):
    assert fit.way == words


def test_a_summary_of_a_checked_run():
    assert summary(REPORT) == [
        ("Forget", "banana"),
        ("Draws instead", "pear"),
        ("Why", "given by the artist"),
        ("Result", "forgotten, the rest preserved"),
        ("Pictures read as the target", "90% before, 5% after"),
        ("Pictures of other concepts read right", "100% before, 88% after"),
        ("How", "closed form, preserve scale 30"),
        ("Time", "12 s"),
    ]


def test_a_summary_of_a_stopped_run_on_a_stack_without_an_anchor():
    check = {"forgotten_before": 0.1, "verdict": "not checked: the run was stopped"}
    told = {"anchor": "", "stack": ["frog", "ink"], "stopped": "stopped at step 7", "check": check}
    rows = dict(summary(REPORT | told))
    assert rows["Draws instead"] == "nothing in its place" and rows["On top of"] == "frog, ink"
    assert rows["Stopped"] == "stopped at step 7" and rows["Result"] == check["verdict"]
    assert not any(label.startswith("Pictures") for label in rows)


def test_a_report_is_plain_values_and_its_summary_the_results_own():
    host = TinyHost()
    result = run(host, config(), stack_on(host, {"concept": "frog"}))
    assert json.loads(json.dumps(result.report)) == result.report
    assert result.summary() == summary(result.report)
    labels = [label for label, _ in result.summary() if label != "Not known by this model"]
    assert labels == [*dict(summary(REPORT))][:-1] + ["On top of", "Time"]
    assert all(isinstance(text, str) and text for row in result.summary() for text in row)
