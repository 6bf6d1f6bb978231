"""The verdict in numbers and words, and what may not be handed on."""

import pytest
import torch

from unlearn_core.evaluate.evaluator import Answers
from unlearn_core.evaluate.verdict import not_checked, too_harmful, verdict
from unlearn_core.recipe import OBJECT, thorough


def answers(share, cat=1.0, dog=1.0, **more):
    return Answers(share, {"cat": cat, "dog": dog}, torch.zeros(0), (), **more)


def test_the_verdict_in_numbers():
    found = verdict(answers(0.9), answers(0.4, cat=0.5), OBJECT)
    assert found == {
        "forgotten_before": pytest.approx(0.1),
        "forgotten_after": 0.6,
        "preserved_before": 1.0,
        "preserved_after": 0.75,
        "preserved_concepts": 2,
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


def of_many(share, kept, count=8):
    """Answers about so many concepts, all of them read right in the same part of their pictures."""
    return Answers(share, {f"gizmo {i}": kept for i in range(count)}, torch.zeros(0), ())


# What the model does not know


def test_what_was_not_recognised_before_counts_for_nothing_and_is_named():
    found = verdict(answers(1.0, dog=0.0), answers(0.0, dog=0.5), OBJECT)
    assert (found["preserved_before"], found["preserved_after"]) == (1.0, 1.0)
    assert found["not_known"] == ["dog"] and found["verdict"] == "forgotten, the rest preserved"
    lost = verdict(answers(1.0, dog=0.4), answers(0.0, dog=0.0), OBJECT)
    assert lost["verdict"] == "forgotten, the rest preserved" and lost["worst_neighbour"]["concept"] == "cat"


def test_half_of_the_pictures_are_enough_to_be_known():
    assert "not_known" not in verdict(answers(1.0, dog=0.5), answers(0.0, dog=0.5), OBJECT)


def test_where_nothing_is_known_nothing_can_be_said():
    found = verdict(answers(1.0, 0.0, 0.0), answers(0.0, 0.0, 0.0), OBJECT)
    assert "preserved_before" not in found and found["not_known"] == ["cat", "dog"]
    assert found["verdict"].startswith("forgotten; whether the rest is preserved could not be judged")
    assert too_harmful(found, OBJECT) == ""


# What no list names, and what is no number


def test_harm_outside_the_lists_is_named_and_the_worst_told():
    outside = {"a picture in soft style": 0.9, "a toy": 0.6, "": 0.1}
    found = verdict(answers(1.0), answers(0.0, outside=outside), OBJECT)
    assert found["outside"] == {"prompt": "a picture in soft style", "change": 0.9}
    assert found["verdict"] == "forgotten, but prompts outside the list are harmed, 'a picture in soft style' most"
    quiet = verdict(answers(1.0), answers(0.0, outside={"a toy": OBJECT.outside_harmed}), OBJECT)
    assert quiet["verdict"] == "forgotten, the rest preserved" and quiet["outside"]["prompt"] == "a toy"


def test_pictures_that_are_no_numbers_are_harm_and_not_handed_on():
    found = verdict(answers(1.0), answers(0.0, not_finite=3), OBJECT)
    assert "harmed" in found["verdict"] and "NaN" in found["verdict"]
    assert "in 3 pictures" in too_harmful(found, OBJECT)


# What is not handed on


@pytest.mark.parametrize(
    "before, kept, withheld", [(1.0, 0.75, False), (1.0, 0.74, True), (0.8, 0.6, False), (0.8, 0.59, True)]
)
def test_what_harms_more_than_a_quarter_is_not_handed_on(before, kept, withheld):
    why = too_harmful(verdict(of_many(1.0, before), of_many(0.0, kept), OBJECT), OBJECT)
    assert bool(why) == withheld
    if withheld:
        assert f"in {kept:.0%} with it" in why and "'Go on regardless'" in why


@pytest.mark.parametrize("count, withheld", [(1, False), (2, True), (3, True)])
def test_one_concept_alone_may_be_lost_by_chance(count, withheld):
    numbers = verdict(of_many(1.0, 1.0, count), of_many(0.0, 0.0, count), OBJECT)
    assert bool(too_harmful(numbers, OBJECT)) == withheld


@pytest.mark.parametrize("left", [0.2, 1.0])
def test_what_is_still_there_is_no_harm(left):
    assert too_harmful(verdict(answers(1.0), answers(left), OBJECT), OBJECT) == ""


def test_what_nobody_has_looked_at_is_handed_on():
    assert too_harmful(verdict(None, None, OBJECT), OBJECT) == ""
    assert too_harmful(verdict(answers(1.0), None, OBJECT), OBJECT) == ""


@pytest.mark.parametrize("near, warned", [(0.0, False), (OBJECT.glance_near, False), (0.3, True), (1.0, True)])
def test_a_quick_run_warns_where_scores_are_still_the_targets(near, warned):
    found = not_checked(near, OBJECT)
    assert found["scores_near_target"] == near and found["verdict"].startswith("not checked")
    assert ("may still be drawn; use the quality 'normal'" in found["verdict"]) == warned
    assert not_checked(None, OBJECT) == {"verdict": "not checked"}
