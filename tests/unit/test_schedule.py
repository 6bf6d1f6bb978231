"""The steps of a training without a network: rates, penalties, pushing past the anchor, and when the check looks."""

from dataclasses import replace

import pytest

from unlearn_core.method.training.schedule import Schedule
from unlearn_core.recipe import OBJECT, STYLE

RECIPE = replace(
    OBJECT,
    warm_up=4,
    check_from=6,
    check_every=3,
    settle=5,
    recent=2,
    fallen=0.2,
    searching=0.1,
    settling=1.0,
    patience=1000,
)
"""Small numbers that can be followed by hand."""


def played(recipe, steps, answers=(), overshoot=0.5, gap=1.0, losses=lambda number: 0.0):
    """All steps of a training whose check answers in turn, and the steps at which it looked.

    answers: whether the target is still there, one for each look; the last one for all others.
    """
    schedule, made, looks, left = Schedule(recipe, steps, overshoot, gap), [], [], list(answers)
    for step in schedule:
        made.append(step)
        if schedule.wants_a_look(losses(step.number)):
            looks.append((step.number, schedule.settled))
            schedule.looked(left.pop(0) if len(left) > 1 else left[0])
    return made, looks


def rates(made):
    return [round(step.rate, 6) for step in made]


def test_the_rate_rises_and_falls_by_hand():
    """Four steps of warming up; the last five fall by fifths."""
    made, looks = played(RECIPE, 12, [True])
    assert rates(made) == [0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2]
    assert [step.number for step in made] == list(range(1, 13)) and looks == [(6, False)]


def test_a_training_shorter_than_warming_up_and_settling_takes_the_smaller_rate():
    assert rates(played(RECIPE, 3, [True])[0]) == [0.25, 0.4, 0.2]
    assert rates(played(RECIPE, 1, [True])[0]) == [0.2]


def test_the_check_looks_from_a_step_on_every_few_steps_and_not_while_settling():
    assert played(RECIPE, 30, [True])[1] == [(n, False) for n in (6, 9, 12, 15, 18, 21, 24)]
    # at step 9 of 14 no settling phase would be saved
    assert played(RECIPE, 14, [True])[1] == [(6, False)]


@pytest.mark.parametrize("gap, first", [(2.0, 12), (1.9, 15)])
def test_the_check_looks_only_when_the_mean_of_the_last_losses_has_fallen(gap, first):
    """At step 12 the mean of 0.5 and 0.3 is a fifth of 2; at step 15 that of 0.3 and 0.3 is less."""
    looks = played(RECIPE, 30, [True], gap=gap, losses=lambda n: 0.5 if n < 12 else 0.3)[1]
    assert [n for n, _ in looks] == list(range(first, 25, 3))
    assert played(RECIPE, 30, [True], losses=lambda n: 0.21)[1] == []


def test_pushing_past_the_anchor_allows_for_the_longer_way():
    """The loss is a square, so half of the way more is (1 + 0.5)^2 as much."""
    pushed = replace(RECIPE, patience=0)
    assert played(pushed, 30, [True], losses=lambda n: 0.44)[1][0] == (6, False)
    assert played(pushed, 30, [True], losses=lambda n: 0.46)[1] == []


def test_a_target_that_is_gone_begins_the_settling_phase_and_the_last_question_ends_it():
    made, looks = played(RECIPE, 100, [True, False, False])
    assert looks == [(6, False), (9, False), (14, True)]
    assert rates(made)[9:] == [1.0, 0.8, 0.6, 0.4, 0.2]
    assert [s.preservation for s in made] == [0.1] * 9 + [1.0] * 5


def test_a_target_that_is_back_after_settling_is_searched_for_again():
    """At full rate, until it is gone once more."""
    made, looks = played(RECIPE, 100, [False, True, False, False])
    assert looks == [(6, False), (11, True), (12, False), (17, True)]
    assert len(made) == 17 and made[11].rate == 1 and made[11].preservation == 0.1


def test_it_ends_at_most_steps_with_a_settling_phase_whatever_the_check_says():
    made, looks = played(RECIPE, 20, [True])
    assert len(made) == 20 and [s.preservation for s in made] == [0.1] * 15 + [1.0] * 5
    assert not any(settled for _, settled in looks)


def test_patience_pushes_a_target_that_resists_and_only_that():
    patient = replace(RECIPE, patience=7)
    assert [s.overshoot for s in played(patient, 16, [True])[0]] == [0.0] * 7 + [0.5] * 9
    # gone at step 6, before the patience is over
    gone = played(patient, 100, [False, False])[0]
    assert len(gone) == 11 and [s.overshoot for s in gone] == [0.0] * 11


def test_a_push_that_has_begun_goes_on_while_settling_or_not():
    for goes_on in (True, False):
        recipe = replace(RECIPE, patience=2, overshoot_while_settling=goes_on)
        made = played(recipe, 100, [False, False])[0]
        assert [s.overshoot for s in made] == [0.0] * 2 + [0.5] * 4 + [0.5 if goes_on else 0.0] * 5


def test_a_target_that_comes_back_is_pushed_once_the_patience_is_over():
    made = played(replace(RECIPE, patience=8), 100, [False, True, False, False])[0]
    assert [s.overshoot for s in made] == [0.0] * 11 + [0.5] * 6


@pytest.mark.parametrize("recipe, wanted", [(OBJECT, [0.0] * 150 + [0.5] * 150), (STYLE, [0.5] * 250 + [0.0] * 50)])
def test_things_are_pushed_when_they_resist_and_styles_until_they_settle(recipe, wanted):
    made, looks = played(recipe, 300, [True])
    assert [s.overshoot for s in made] == wanted
    assert [n for n, _ in looks] == list(range(50, 250, 25))
