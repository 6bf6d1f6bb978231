"""What a step teaches: which rows change, how far past its anchor the target is steered, and what is replayed."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from tests.tiny import WORDS, TinyHost
from tests.unit.runs import config, opened, run, stack_on
from unlearn_core import Stack
from unlearn_core.evaluate.evaluator import Evaluator
from unlearn_core.method.anchor import choose_anchor
from unlearn_core.method.prompt_pairs import PromptPairs
from unlearn_core.method.request import Request
from unlearn_core.method.training import loop
from unlearn_core.method.training.data import Batch, TrainingData
from unlearn_core.method.training.loop import goals
from unlearn_core.method.training.replay import Replay
from unlearn_core.recipe import SMALL
from unlearn_core.sampling import LatentBank, direction, noise
from unlearn_core.words.prompts import names
from unlearn_core.words.word_list import WordList

NAMED, MAPPED = ["a flat banana", "banana, ink"], ["a flat pear", "pear, ink"]
KEPT, GONE, BECOME = ["", "a cat", "a glossy car"], ["a frog", "frog, flat"], ["an elephant", "elephant, flat"]


def bank(host, prompts):
    return LatentBank(noise((len(prompts), 1, *host.latent_shape), 0, host.device), host.encode(prompts))


def drawn_batch(host, size=40):
    taught, levels = host.encode(KEPT + BECOME), torch.ones(len(host.sigmas))
    replayed = bank(host, KEPT + GONE), torch.ones(5), taught
    data = TrainingData(bank(host, NAMED), host.encode(MAPPED), *replayed, levels, len(GONE), 1.0)
    return data.batch(host, size, torch.Generator().manual_seed(0))


def changed_rows(part):
    return tuple((part.student.tokens != part.teacher.tokens).flatten(1).any(1).nonzero().flatten().tolist())


def test_rows_that_change_are_those_whose_prompts_differ():
    drawn = drawn_batch(TinyHost())
    assert drawn.changed == changed_rows(drawn)
    assert drawn.changed[:40] == tuple(range(40)) and 40 < len(drawn.changed) < 80


@pytest.mark.parametrize("pairs, sizes", [(1, [2] * 40), (3, [6] * 13 + [2]), (40, [80]), (99, [80])])
def test_parts_have_all_rows_and_know_which_change(pairs, sizes):
    whole = drawn_batch(TinyHost())
    parts = list(whole.parts(pairs))
    assert [len(p.x) for p in parts] == sizes
    assert all(part.changed == changed_rows(part) for part in parts)
    halves = [[p.x[: len(p.x) // 2] for p in parts], [p.x[len(p.x) // 2 :] for p in parts]]
    assert torch.equal(torch.cat([*halves[0], *halves[1]]), whole.x)


def batch(host):
    """One forget row, one kept row, one that shows what has gone, and another kept one."""
    student = ["a flat banana", "a cat", "a frog", "a glossy car"]
    teacher = ["a flat pear", "a cat", "a dog", "a glossy car"]
    x = noise((4, *host.latent_shape), 1, host.device)
    return Batch(x, host.sigmas[[20, 50, 70, 90]], host.encode(student), host.encode(teacher), (0, 2))


@torch.no_grad()
def test_the_goal_lies_past_the_anchor_by_that_part_of_the_way():
    host, part = TinyHost(), batch(TinyHost())
    anchored = direction(host, part.x, part.sigma, part.teacher)
    named = direction(host, part.x, part.sigma, part.student)
    goal = goals(SimpleNamespace(host=host), part, 0.5)
    assert torch.allclose(goal[[1, 3]], anchored[[1, 3]], atol=1e-5)
    past, way = (goal - anchored)[[0, 2]], (anchored - named)[[0, 2]]
    assert way.abs().max() > 0.01 and torch.allclose(past, 0.5 * way, atol=1e-5)


@torch.no_grad()
def test_without_overshoot_the_goal_is_the_anchor_itself():
    host, part = TinyHost(), batch(TinyHost())
    wanted = direction(host, part.x, part.sigma, part.teacher)
    assert torch.equal(goals(SimpleNamespace(host=host), part, 0.0), wanted)


def steered(monkeypatch, wish, **recipe):
    """How far each step of a run is steered past the anchor. recipe: other constants."""
    seen = []
    monkeypatch.setattr(loop, "goals", lambda run, part, overshoot: seen.append(overshoot) or goals(run, part, 0.0))
    run(TinyHost(), wish, recipes={kind: replace(small, **recipe) for kind, small in SMALL.items()})
    return seen


@pytest.mark.parametrize("concept, anchor, wanted", [("banana", "pear", [0, 0, 1, 1]), ("ink", "flat", [1, 1, 1, 0])])
def test_the_setting_says_how_far_the_target_is_steered(monkeypatch, concept, anchor, wanted):
    patience = 2 if concept == "banana" else 0
    assert (
        steered(monkeypatch, config(concept=concept, anchor=anchor, steps=4, overshoot=1), patience=patience, settle=1)
        == wanted
    )


@pytest.mark.parametrize("concept, anchor, wanted", [("banana", "pear", [0.5, 0.5]), ("ink", "flat", [0.75, 0])])
def test_by_default_the_recipe_says_it(monkeypatch, concept, anchor, wanted):
    assert steered(monkeypatch, config(concept=concept, anchor=anchor, steps=2), patience=0, settle=1) == wanted


def test_a_target_that_has_gone_in_time_ends_the_training(monkeypatch):
    """The check looks at step 2 and after four settling ones."""
    monkeypatch.setattr(Evaluator, "still_generated", lambda *_: False)
    assert steered(monkeypatch, config(steps=60), patience=3, check_from=2, settle=4, fallen=99.0) == [0] * 6


def data_of(stack=None, **changes):
    """(the run's request, what a training of it learns from)."""
    host = TinyHost()
    with opened(host, config(**changes), stack, SMALL) as open_run:
        anchor = choose_anchor(open_run)
        pairs = PromptPairs.make(open_run.request, anchor.name)
        return pairs, TrainingData.draw(open_run, anchor, pairs), host


def test_data_are_drawn_for_every_prompt_once():
    pairs, data, host = data_of(latents_per_prompt=3)
    assert len(data.forget) == min(len(pairs.forget), SMALL["object"].training_prompts)
    assert data.forget.latents.shape[1] == data.replay.latents.shape[1] == 3
    assert len(data.mapped) == len(data.forget) and len(data.taught) == len(data.replay) == len(data.replay_weights)
    assert len(data.level_weights) == len(host.sigmas) and data.level_weights.sum().item() == pytest.approx(1, abs=1e-5)
    assert data.erased == 0 and data.gap > 0


def test_inherited_prompts_are_forgotten_and_erased_ones_replayed_with_what_they_draw():
    host = TinyHost()
    prompts = (("a frog", "a banana"), ("an owl", "a cat"))
    pairs, data, _ = data_of(stack_on(host, {"concept": "frog", "prompts": prompts}))
    assert torch.equal(data.forget.conditioning.tokens[-1:], host.encode(["a frog"]).tokens)
    assert torch.equal(data.mapped.tokens[-1:], host.encode(["a pear"]).tokens)
    assert data.erased == 1
    assert torch.equal(data.replay.conditioning.tokens[-1:], host.encode(["an owl"]).tokens)
    assert torch.equal(data.taught.tokens[-1:], host.encode(["a cat"]).tokens)


def replay_of(keep=("owl",), gone=(("a frog", "a fish"), ("the frog", "the fish")), words=WORDS):
    host = TinyHost()
    host.words_file = words
    request = Request.read(host, config(keep=keep), Stack(), recipes=SMALL)
    return Replay.make(request, request.rest.rivals("banana", "object")[:10], gone)


@pytest.mark.parametrize("words", [None, WORDS], ids=["general", "demo"])
def test_replay_has_every_group_at_its_share(words):
    replay = replay_of(words=words)
    assert replay.weights.sum().item() == pytest.approx(1.0, abs=1e-6)
    asked = [*replay.prompts, *(p for p, _ in replay.erased)]
    by_prompt = dict(zip(asked, replay.weights.tolist(), strict=True))
    assert by_prompt[""] == pytest.approx(0.1 / 1.25, abs=1e-6)
    assert by_prompt["a frog"] == pytest.approx(0.1 / 1.25, abs=1e-6)
    assert {p for p, _ in replay.erased} == {"a frog", "the frog"}
    assert any(names(p, "owl") for p in replay.prompts)
    assert not any(names(p, "banana") for p in replay.prompts)


def test_a_group_that_is_missing_leaves_its_share_to_the_others():
    replay = replay_of(keep=(), gone=())
    assert replay.erased == () and replay.weights.sum().item() == pytest.approx(1.0, abs=1e-6)
    assert replay.weights[replay.prompts.index("")].item() == pytest.approx(0.1 / 0.85, abs=1e-6)


def test_far_concepts_are_as_many_as_the_recipe_says():
    replay, words = replay_of(keep=(), gone=()), WordList.load(WORDS)
    near = words.rivals("banana", "object")[: SMALL["object"].replay_near]
    far = [p for p in replay.prompts if p and not any(names(p, n) for n in near)]
    assert len(far) <= SMALL["object"].replay_far <= len(replay.prompts)
