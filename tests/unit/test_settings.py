"""Every setting acts: on what a default run makes or checks, or, in the group of training, on what it learns."""

import pytest
import torch

from tests.tiny import TinyHost
from tests.unit.runs import TRAINED, run
from unlearn_core import Cancelled, ForgetConfig, settings
from unlearn_core.config import EDIT, REQUEST, TRAINING
from unlearn_core.evaluate.evaluator import Evaluator
from unlearn_core.method import deep
from unlearn_core.method.deep import Deep

DEFAULTS = {"concept": "banana", "anchor": "pear", "sampling_steps": 2}
"""A default run but for the steps of its pictures, and its anchor: a network of random numbers has no good one."""
OTHERS = {
    "concept": "frog",
    "anchor": "elephant",
    "keep": ("gizmo",),
    "kind": "style",
    "quality": "quick",
    "seed": 1,
    "force": True,
    "closed_form": False,
    "rank": 1,
    "overshoot": 2.0,
    "sampling_steps": 3,
    "guidance": 1.5,
    "steps": 3,
    "on_stop": "discard",
    "learning_rate": 1e-3,
    "batch": 3,
    "layers": "cross",
    "forget_weight": 0.5,
    "keep_weight": 5.0,
    "drift_weight": 1.0,
    "preservation_weight": 5.0,
    "latents_per_prompt": 2,
    "checkpointing": True,
    "memory": 0.001,
    "depth": "deep",
    "scope": "everywhere",
}
"""Another value for each setting."""
BY_GROUP = {g: [f.name for f in settings() if f.metadata["group"] == g] for g in (REQUEST, EDIT, TRAINING)}


def result_of(base, **changes):
    return run(TinyHost(), ForgetConfig(**{**base, **changes}))


def same_factors(one, other):
    a, b = one.delta.factors, other.delta.factors
    return a.keys() == b.keys() and all(torch.equal(a[n].matrix(), b[n].matrix()) for n in a)


def what_changed(one, other):
    """The parts of two results that are not the same: factors, numbers of the check, pictures."""
    found = set() if same_factors(one, other) else {"factors"}
    found |= set() if one.delta.info.check == other.delta.info.check else {"check"}
    pictures = [(r.before, r.after) for r in (one, other)]
    same = all(
        a is b or (a is not None and b is not None and torch.equal(a, b)) for a, b in zip(*pictures, strict=True)
    )
    return found | (set() if same else {"pictures"})


@pytest.fixture(scope="module")
def default():
    """A run whose closed form is enough."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Evaluator, "still_generated", lambda *_: False)
        return result_of(DEFAULTS)


@pytest.fixture(scope="module")
def trained():
    return result_of(TRAINED)


@pytest.fixture
def enough(monkeypatch):
    """The check never finds the target by its name, but always under learned words."""
    monkeypatch.setattr(Evaluator, "still_generated", lambda *_: False)
    monkeypatch.setattr(Deep, "success", lambda *_: 1.0)
    for name in ("ROUNDS", "ATTACK_STEPS", "DEEP_STEPS"):
        monkeypatch.setattr(deep, name, 1)


def test_each_setting_has_a_group_and_another_value_here():
    assert OTHERS.keys() == {name for names in BY_GROUP.values() for name in names} == {f.name for f in settings()}
    assert all(getattr(ForgetConfig(concept="banana"), name) != value for name, value in OTHERS.items())


CHANGED = {
    "concept": {"factors", "check", "pictures"},
    "anchor": {"factors"},
    "keep": {"factors"},
    "kind": {"factors"},
    "quality": {"check", "pictures"},
    "seed": {"factors", "pictures"},
    "force": set(),  # nothing where the words are clear and the rest is not harmed
    "closed_form": {"factors"},
    "rank": {"factors"},
    "overshoot": {"factors"},
    "sampling_steps": {"pictures"},
    "guidance": {"pictures"},
    "depth": {"factors"},
    "scope": {"check"},
}
"""What each setting changes in a run at least; a network of random numbers need not come out better everywhere."""


@pytest.mark.parametrize("name", BY_GROUP[REQUEST] + BY_GROUP[EDIT])
def test_a_setting_changes_what_a_default_run_makes_or_finds(name, default, enough):
    value = {"closed_form": {"closed_form": False, "steps": 3, "batch": 2}}.get(name, {name: OTHERS[name]})
    assert CHANGED[name] <= what_changed(default, result_of(DEFAULTS, **value))


def test_thorough_looks_at_more_and_allows_less(default, enough):
    careful = result_of(DEFAULTS, quality="thorough")
    assert {"factors", "check"} <= what_changed(default, careful)


@pytest.mark.parametrize("name", BY_GROUP[TRAINING])
def test_a_training_setting_changes_nothing_in_a_run_that_did_not_train(name, default, enough):
    changed = result_of(DEFAULTS, **{name: OTHERS[name]})
    assert what_changed(default, changed) == set() and changed.report["steps"] == 0
    assert changed.delta.info.prompts == default.delta.info.prompts


@pytest.mark.parametrize("name", BY_GROUP[TRAINING])
def test_a_training_setting_changes_a_training(name, trained):
    if name == "on_stop":  # what is left of a stopped one
        with pytest.raises(Cancelled):
            run(TinyHost(), ForgetConfig(**{**TRAINED, name: OTHERS[name]}), progress=lambda r: r.phase == "training")
        return
    changed = result_of(TRAINED, **{name: OTHERS[name]})
    if name in ("checkpointing", "memory"):  # how it is made, not what
        assert changed.report["memory"] != trained.report["memory"]
    else:
        assert not same_factors(changed, trained)


def test_what_decides_leaves_out_what_did_not_act():
    config = ForgetConfig(concept="cat")
    trained, edited = config.deciding(), config.deciding(trained=False)
    assert trained.keys() == {*OTHERS, "going"} - {"memory", "force", "depth", "scope"}
    assert edited.keys() == {*OTHERS, "going"} - {"force", "depth", "scope"} - set(BY_GROUP[TRAINING])
