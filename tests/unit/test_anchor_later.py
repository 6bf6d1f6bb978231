"""An anchor whose pictures are looked at only where the first fit was not enough: it may be to blame."""

from dataclasses import replace

import pytest

from tests.tiny import TinyHost
from tests.unit.runs import assert_same, config, opened, run, state_of
from unlearn_core.evaluate.stepwise import StepwiseEvaluator
from unlearn_core.method import anchor as anchor_module
from unlearn_core.method.anchor import AnchorChoice
from unlearn_core.recipe import OBJECT, SMALL

WISH = config(anchor="", closed_form=True)


def recipes(group=4):
    return {kind: replace(recipe, group=group) for kind, recipe in SMALL.items()}


@pytest.fixture(scope="module")
def order():
    """The two nearest candidates."""
    with opened(TinyHost(), WISH, recipes=recipes()) as made:
        return [name for name, general in AnchorChoice.make(made).order if not general][:2]


@pytest.fixture
def gate(monkeypatch, order):
    """Pictures of the nearest read as the target.

    The fixture is (anchors with which no try is enough, those that were looked at).
    """
    fail, asked = set(), []

    def share(made, probed, name, general):
        assert not made.edits._on, "by the model as it was before the request"
        asked.append(name)
        return float(name == order[0])

    monkeypatch.setattr(anchor_module, "share_read_as_target", share)
    monkeypatch.setattr(StepwiseEvaluator, "still_generated", lambda self, *_: self.questions.anchor in fail)
    monkeypatch.setattr(StepwiseEvaluator, "gone", lambda self, _: self.questions.anchor not in fail)
    return fail, asked


def test_the_nearest_is_not_looked_at_where_the_first_try_is_enough(gate, order):
    report = run(TinyHost(), WISH, recipes=recipes()).report
    assert report["anchor"] == order[0] and report["rejected"] == {} and gate[1] == []
    assert report["preserve_scale"] == OBJECT.tries[0][0]


def test_where_the_first_try_is_not_enough_the_next_is_taken_if_it_draws_the_target(gate, order):
    gate[0].add(order[0])
    host, fractions = TinyHost(), []
    before = state_of(host)
    report = run(host, WISH, recipes=recipes(), progress=lambda r: fractions.append(r.fraction)).report
    assert report["anchor"] == order[1] and report["rejected"] == {order[0]: 1.0} and gate[1] == order
    assert f"nearer ones still draw it: {order[0]}" in report["reason"]
    assert report["preserve_scale"] == OBJECT.tries[0][0]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    assert_same(before, state_of(host))


def test_each_is_looked_at_once_and_one_that_passes_is_tried_to_the_end(gate, order):
    gate[0].update(order)
    report = run(TinyHost(), WISH, recipes=recipes()).report
    assert report["anchor"] == order[1] and gate[1] == order and report["tried_training"]


@pytest.mark.parametrize(("closed_form", "group"), [(False, 4), (True, 0)])
def test_where_the_first_fit_is_dear_or_all_is_checked_it_is_looked_at_before(gate, order, closed_form, group):
    with opened(TinyHost(), replace(WISH, closed_form=closed_form), recipes=recipes(group)) as made:
        assert AnchorChoice.make(made).nearest(confirmed=False).name != order[0] and gate[1][:1] == order[:1]
