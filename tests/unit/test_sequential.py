"""When the check has seen enough: the sequential test and its error, and the grades that it decides on."""

import random
from dataclasses import replace
from math import log

import pytest
import torch

from unlearn_core.evaluate.reading import HowToRead, margins
from unlearn_core.evaluate.sequential import FORGOTTEN, PARTLY, STILL_THERE, SequentialTest, decided, enough, grade
from unlearn_core.recipe import OBJECT, thorough


def test_answers_by_hand():
    """ln(0.99 / 0.01) = 4.595; a miss weighs ln(0.5 / 0.95) = -0.642, a hit ln(10) = 2.303."""
    asked = SequentialTest(0.05, 0.5, 0.01)
    assert asked.answer(0, 7) is None and asked.answer(0, 8) is False
    assert asked.answer(1, 2) is None and asked.answer(2, 2) is True
    assert asked.answer(1, 11) is None and asked.answer(1, 12) is False


@pytest.mark.parametrize("share, wrong", [(0.05, True), (0.5, False)])
def test_wrong_answers_are_as_rare_as_is_said(share, wrong):
    asked, draw, failed = SequentialTest(0.05, 0.5, 0.05), random.Random(3), 0
    for _ in range(2000):
        hits = count = 0
        while (found := asked.answer(hits, count)) is None:
            hits, count = hits + (draw.random() < share), count + 1
        failed += found is wrong
    assert 0 < failed / 2000 < 0.05 * 1.2


def test_grades_are_the_verdicts():
    assert [grade(s, OBJECT) for s in (0.0, 0.05, 0.06, 0.5, 0.51, 1.0)] == [
        *(FORGOTTEN, FORGOTTEN, PARTLY, PARTLY, STILL_THERE, STILL_THERE)
    ]


def test_what_is_clear_is_known_from_few_pictures():
    away, near, there = -2.0, -0.5, 1.0
    assert not decided([], OBJECT) and not decided([away] * 4, OBJECT)
    assert decided([away] * 8, OBJECT) and not decided([away] * 7 + [near], OBJECT)
    assert decided([away] * 11 + [near], OBJECT)
    assert not decided([away] * 8 + [there], OBJECT), "one of nine is more than may be left"
    assert decided([there] * 8, OBJECT) and not decided([there, away] * 4, OBJECT)
    assert decided([there] * 6 + [away] * 22, OBJECT)


def test_as_many_are_looked_at_together_as_may_be_enough():
    """ln(0.98 / 0.02) = 3.892; a clear picture weighs ln(0.5 / 0.9) = -0.588, one that is near ln(5) = 1.609."""
    away, near = -2.0, -0.3
    assert enough([], 32, OBJECT) == 7 and decided([away] * 7, OBJECT) and not decided([away] * 6, OBJECT)
    assert enough([away] * 6 + [near], 25, OBJECT) == 4 and decided([away] * 10 + [near], OBJECT)
    assert enough([away, near, near, near], 28, OBJECT) == 2 * OBJECT.group, "no more than two groups"
    assert enough([near] * 29, 3, OBJECT) == 3, "no more than there are"
    assert enough([], 32, OBJECT, weak=True) == 2 * OBJECT.group, "where only all pictures tell"


def test_a_margin_that_is_no_number_counts_as_the_targets():
    nan = float("nan")
    assert not decided([nan] + [-2.0] * 7, OBJECT) and decided([nan] * 8, OBJECT)


def test_the_full_check_is_that_of_thorough():
    assert OBJECT.group and not thorough(OBJECT).group


class Table:
    """Errors `[pictures, readings, levels]`; asked: how many were looked up."""

    def __init__(self, values):
        self.values, self.asked = torch.tensor(values), 0

    def errors(self, pictures, readings, level):
        self.asked += len(pictures) * len(readings)
        return self.values[list(pictures)][:, list(readings), level]


def test_only_what_is_not_clear_is_read_at_more_levels_and_only_with_likely_readings():
    how = HowToRead((1, 0), 0.5)
    clear, open_one = [[1.0, 1.0], [9.0, 9.0], [4.0, 4.0]], [[2.0, 1.0], [1.0, 1.1], [9.0, 8.0]]
    table = Table([clear, open_one])
    found = margins(table, [0, 1], 3, how)
    assert found.tolist() == pytest.approx([log(4.0), (log(1.1 / 1.0) + log(1.0 / 2.0)) / 2])
    assert table.asked == 2 * 3 + 2
    assert margins(Table([open_one]), [0], 3, HowToRead((1,), 0.5)).tolist() == pytest.approx([0.0953], abs=1e-3)


def test_levels_count_alike_whatever_the_scale_of_their_errors():
    small, large = [0.01, 0.03], [100.0, 90.0]
    errors = [[[small[r], large[r]] for r in (0, 1)]]
    assert margins(Table(errors), [0], 2, HowToRead((1, 0), 9.0)).tolist() == pytest.approx([log(3 * 0.9) / 2])


def test_a_weak_change_is_forgotten_only_when_all_pictures_say_so():
    assert decided([-2.0] * 8, OBJECT) and not decided([-2.0] * 31, OBJECT, weak=True)
    for sure in ([1.0] * 8, [1.0] * 6 + [-2.0] * 22):
        assert decided(sure, OBJECT, weak=True) == decided(sure, OBJECT), "what is still there needs no more"


def test_margins_of_no_numbers_are_none_and_of_no_rivals_infinite():
    nan, inf = float("nan"), float("inf")
    found = margins(Table([[[nan], [1.0]], [[1.0], [inf]]]), [0, 1], 2, HowToRead((0,), 0.5))
    assert found[0] != found[0] and found[1] == inf


def test_a_larger_error_needs_fewer_pictures():
    assert decided([-2.0] * 4, replace(OBJECT, error=0.2))
