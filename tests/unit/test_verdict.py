"""The verdict in numbers and words, and what may not be handed on."""

import pytest
import torch

from unlearn_core.evaluate.evaluator import Answers
from unlearn_core.evaluate.verdict import too_harmful, verdict
from unlearn_core.recipe import OBJECT, thorough


def answers(share, cat=1.0, dog=1.0):
    return Answers(share, {"cat": cat, "dog": dog}, torch.zeros(0), ())


def test_the_verdict_in_numbers():
    found = verdict(answers(0.9), answers(0.4, cat=0.5), OBJECT)
    assert found == {
        "forgotten_before": pytest.approx(0.1),
        "forgotten_after": 0.6,
        "preserved_before": 1.0,
        "preserved_after": 0.75,
        "worst_neighbour": {"concept": "cat", "lost": 0.5},
        "verdict": "partly forgotten, but 'cat' and others are harmed",
    }


@pytest.mark.parametrize(
    "left, words",
    [
        (0.0, "forgotten"),
        (0.05, "forgotten"),
        (0.051, "partly forgotten"),
        (0.5, "partly forgotten"),
        (0.51, "not forgotten"),
        (1.0, "not forgotten"),
    ],
)
def test_the_verdict_in_words(left, words):
    assert verdict(answers(1.0), answers(left), OBJECT)["verdict"] == f"{words}, the rest preserved"


@pytest.mark.parametrize("kept, harmed", [(0.91, False), (0.89, True)])
def test_harm_is_a_twentieth_of_the_mean(kept, harmed):
    assert ("harmed" in verdict(answers(1.0), answers(0.0, cat=kept), OBJECT)["verdict"]) == harmed


def test_a_thorough_verdict_allows_half():
    assert verdict(answers(1.0), answers(0.03), OBJECT)["verdict"].startswith("forgotten")
    assert verdict(answers(1.0), answers(0.03), thorough(OBJECT))["verdict"].startswith("partly")


def test_what_nobody_has_looked_at_has_no_numbers():
    assert verdict(None, None, OBJECT) == {"verdict": "not checked"}
    assert verdict(answers(0.9), None, OBJECT) == {
        "forgotten_before": pytest.approx(0.1),
        "verdict": "not checked: the run was stopped",
    }


@pytest.mark.parametrize("kept, withheld", [(0.5, False), (0.49, True), (0.0, True)])
def test_what_harms_more_than_a_quarter_is_not_handed_on(kept, withheld):
    why = too_harmful(verdict(answers(1.0), answers(0.0, cat=kept), OBJECT), OBJECT)
    assert bool(why) == withheld
    if withheld:
        assert "'cat' lost most" in why and "--force" in why


@pytest.mark.parametrize("left", [0.2, 1.0])
def test_what_is_still_there_is_no_harm(left):
    assert too_harmful(verdict(answers(1.0), answers(left), OBJECT), OBJECT) == ""


def test_what_nobody_has_looked_at_is_handed_on():
    assert too_harmful(verdict(None, None, OBJECT), OBJECT) == ""
    assert too_harmful(verdict(answers(1.0), None, OBJECT), OBJECT) == ""
