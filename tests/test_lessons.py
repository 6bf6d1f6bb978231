"""What a step teaches: which rows change, and how far past its replacement the target is steered."""

import pytest
import torch

from tests.test_forget import config
from tests.tiny import TinyHost
from unlearn_core import BadSetting, forget
from unlearn_core.evaluate.evaluator import Exam
from unlearn_core.method import forget as train
from unlearn_core.method.training.data import Batch, Lessons
from unlearn_core.method.training.loop import goals
from unlearn_core.sampling import LatentBank, direction, noise

NAMED, MAPPED = ["a flat banana", "banana, ink"], ["a flat pear", "pear, ink"]
KEPT, GONE, BECOME = ["", "a cat", "a glossy car"], ["a frog", "frog, flat"], ["an elephant", "elephant, flat"]


def bank(host, prompts):
    return LatentBank(noise((len(prompts), 1, *host.latent_shape), 0, host.device), host.encode(prompts))


def lessons(host):
    mapped, taught = host.encode(MAPPED), host.encode(KEPT + BECOME)
    levels = torch.ones(len(host.sigmas))
    return Lessons(bank(host, NAMED), mapped, bank(host, KEPT + GONE), torch.ones(5), taught, levels, len(GONE), 1.0)


def batch(host):
    """One forget row, one kept row, one that shows what has gone, and another kept one."""
    student, teacher = (
        ["a flat banana", "a cat", "a frog", "a glossy car"],
        ["a flat pear", "a cat", "a dog", "a glossy car"],
    )
    x = noise((4, *host.latent_shape), 1, host.device)
    return Batch(x, host.sigmas[[20, 50, 70, 90]], host.encode(student), host.encode(teacher), (0, 2))


def test_rows_that_change_are_those_whose_prompts_differ():
    host = TinyHost()
    drawn = lessons(host).draw(host, 40, torch.Generator().manual_seed(0))
    differ = (drawn.student.tokens != drawn.teacher.tokens).flatten(1).any(1)
    assert drawn.changed == tuple(differ.nonzero().flatten().tolist())
    assert drawn.changed[:40] == tuple(range(40)) and 40 < len(drawn.changed) < 80


@pytest.mark.parametrize("pairs", [1, 3, 40])
def test_parts_have_all_rows_and_know_which_change(pairs):
    host = TinyHost()
    drawn = lessons(host).draw(host, 40, torch.Generator().manual_seed(0))
    parts = list(drawn.parts(pairs))
    assert sum(len(p.x) for p in parts) == 80
    for part in parts:
        differ = (part.student.tokens != part.teacher.tokens).flatten(1).any(1)
        assert part.changed == tuple(differ.nonzero().flatten().tolist())


def test_the_goal_lies_past_the_replacement_by_that_part_of_the_way():
    host, part = TinyHost(), batch(TinyHost())
    with torch.no_grad():
        replaced = direction(host, part.x, part.sigma, part.teacher)
        named = direction(host, part.x, part.sigma, part.student)
        goal = goals(host, part, 0.5)
    assert torch.allclose(goal[[1, 3]], replaced[[1, 3]], atol=1e-5)
    past = (goal - replaced)[[0, 2]]
    way = (replaced - named)[[0, 2]]
    assert way.abs().max() > 0.01 and torch.allclose(past, 0.5 * way, atol=1e-5)


def test_without_overshoot_the_goal_is_the_replacement_itself():
    host, part = TinyHost(), batch(TinyHost())
    with torch.no_grad():
        assert torch.equal(goals(host, part, 0.0), direction(host, part.x, part.sigma, part.teacher))


@pytest.mark.parametrize("wrong", [-1.1, 11, "far", float("nan")])
def test_hostile_overshoot_is_refused(wrong):
    with pytest.raises(BadSetting, match="Overshoot"):
        config(overshoot=wrong)


@pytest.mark.parametrize("concept, anchor, wanted", [("banana", "pear", [0, 0, 1, 1]), ("ink", "flat", [1, 1, 1, 0])])
def test_styles_are_steered_past_until_they_settle_and_things_when_they_resist(monkeypatch, concept, anchor, wanted):
    seen = []
    monkeypatch.setattr(train, "PATIENCE", 2)
    monkeypatch.setattr(train, "SETTLE", 1)
    monkeypatch.setattr(train, "goals", lambda host, part, overshoot: seen.append(overshoot) or goals(host, part, 0.0))
    forget(TinyHost(), config(concept=concept, anchor=anchor, steps=4, overshoot=1))
    assert seen == wanted


@pytest.mark.parametrize("concept, anchor, wanted", [("banana", "pear", [0.5, 0.5]), ("ink", "flat", [0.75, 0])])
def test_by_default_a_thing_is_steered_past_by_half_and_a_style_by_three_quarters(monkeypatch, concept, anchor, wanted):
    seen = []
    monkeypatch.setattr(train, "PATIENCE", 0)
    monkeypatch.setattr(train, "SETTLE", 1)
    monkeypatch.setattr(train, "goals", lambda host, part, overshoot: seen.append(overshoot) or goals(host, part, 0.0))
    forget(TinyHost(), config(concept=concept, anchor=anchor, steps=2))
    assert seen == wanted


def test_a_thing_that_has_gone_in_time_is_not_steered_past(monkeypatch):
    seen = []
    for name, value in {"PATIENCE": 3, "CHECK_FROM": 2, "SETTLE": 4, "CLOSED": 9.0}.items():
        monkeypatch.setattr(train, name, value)
    monkeypatch.setattr(Exam, "still_drawn", lambda *_: False)
    monkeypatch.setattr(train, "goals", lambda host, part, overshoot: seen.append(overshoot) or goals(host, part, 0.0))
    forget(TinyHost(), config(steps=60))
    assert seen == [0] * 6
