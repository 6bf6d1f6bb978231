"""Depth: words that are learned for the target, and a run that goes on until they no longer draw it."""

from dataclasses import replace

import pytest
import torch

from tests.tiny import TinyHost
from tests.unit.runs import assert_same, config, run, state_of
from unlearn_core import BadSetting, Cancelled, ForgetConfig, Stack
from unlearn_core.cli.reports import made_with
from unlearn_core.demo.recognition import CHECKPOINT
from unlearn_core.evaluate.evaluator import Evaluator
from unlearn_core.host import Conditioning
from unlearn_core.method import attempts, deep
from unlearn_core.method.attempts import unfinished
from unlearn_core.method.deep import Deep
from unlearn_core.method.forget import forget_or_go_on
from unlearn_core.method.learned_word import (
    AFTER,
    AT,
    BEFORE,
    FILLING,
    Learning,
    Points,
    WordAttack,
    Words,
    places_of,
    with_words,
)
from unlearn_core.method.training.memory import Pace, Plan
from unlearn_core.recipe import DEFAULT, SMALL
from unlearn_core.sampling import direction, noise
from unlearn_core.saved_work import NOTHING, SavedWork
from unlearn_core.standalone.model import StandaloneModel


def wish(**changes):
    return config(closed_form=True, depth="deep", **changes)


@pytest.fixture
def short(monkeypatch):
    """Few steps, and attacks that succeed this often in turn: the list that the fixture is, the last one for good."""
    for kind, recipe in SMALL.items():
        monkeypatch.setitem(DEFAULT, kind, recipe)
    for name, value in {"ROUNDS": 2, "ATTACK_STEPS": 2, "DEEP_STEPS": 3, "POINTS": 1, "ATTACK_PICTURES": 2}.items():
        monkeypatch.setattr(deep, name, value)
    shares = [0.8, 0.0]
    monkeypatch.setattr(Deep, "success", lambda self, words, number: shares[min(number, len(shares) - 1)])
    monkeypatch.setattr(Evaluator, "still_generated", lambda *_: False)
    return shares


@pytest.fixture
def by_name(short):
    """What the same request gives without depth."""
    return run(TinyHost(), config(closed_form=True))


def points(host, count=6):
    """Noise at middle levels, asked for as "a pear"; the model's own answers to "a banana"."""
    x, sigma = noise((count, *host.latent_shape), 3, host.device), host.sigmas[[60] * count]
    asked, named = host.encode(["a pear"] * count), host.encode(["a banana"] * count)
    own = direction(host, x, sigma, named)
    return Points(x, sigma, asked, own, direction(host, x, sigma, asked), places_of(asked, named))


def test_a_vector_goes_where_its_loss_is_least():
    learning = Learning(torch.tensor([1.0, -2.0]), lambda v: [(v - torch.tensor([0.5, 0.5])).square().sum()], 0.1)
    losses = [float(learning.step()) for _ in range(200)]
    assert losses[0] == pytest.approx(0.25 + 6.25) and losses[-1] < 1e-4
    assert torch.allclose(learning.vector.detach(), torch.tensor([0.5, 0.5]), atol=1e-2)


def test_a_word_changes_what_comes_before_it_its_place_and_what_comes_after_it():
    prompts = Conditioning(torch.zeros(2, 4, 2), counts=torch.tensor([4, 2]))
    places = torch.tensor([[BEFORE, AT, AFTER, AFTER], [AT, AFTER, FILLING, FILLING]])
    word = torch.tensor([[0.5, 0.5], [1.0, 2.0], [10.0, 20.0]])
    asked = with_words(prompts, torch.stack([word, -word]), places)
    assert asked.tokens[0].tolist() == [[0.5, 0.5], [1, 2], [10, 20], [10, 20]]
    assert asked.tokens[1].tolist() == [[-1, -2], [-10, -20], [0, 0], [0, 0]]
    assert asked.counts is prompts.counts


def test_a_word_has_a_place_or_is_the_same_everywhere():
    generator = torch.Generator().manual_seed(0)
    everywhere, placed = (Words(2, p).start(3, generator) for p in (False, True))
    assert everywhere.shape == (2, 1, 3) and placed.shape == (2, 2, 3)
    assert everywhere[0].abs().max() == placed[0].abs().max() == 0 < placed[1].abs().min()
    found = Words(2).changes(everywhere)
    assert torch.equal(found[:, BEFORE], everywhere[:, 0]) and torch.equal(found[:, AT], found[:, AFTER])
    found = Words(2, True).changes(placed)
    assert found[:, BEFORE].abs().max() == 0 and torch.equal(found[:, AT:], placed)


def test_the_word_is_found_where_two_prompts_begin_to_differ():
    one = torch.ones(4, 5, 3)
    two = one.clone()
    two[0, 2] = 2.0
    two[1, 1:] += torch.linspace(0.5, 1.0, 4)[:, None]
    two[2] = -1.0
    two[3] += 1e-4
    shorter = Conditioning(two, counts=torch.tensor([5, 3, 5, 5]))
    assert places_of(shorter, Conditioning(one)).tolist() == [
        [BEFORE, BEFORE, AT, AFTER, AFTER],
        [BEFORE, AT, AFTER, FILLING, FILLING],
        [AT, AFTER, AFTER, AFTER, AFTER],
        [BEFORE] * 5,
    ]


def test_what_one_prompt_has_more_of_comes_after_the_word():
    longer, shorter = Conditioning(torch.ones(1, 4, 2)), Conditioning(torch.ones(1, 2, 2))
    assert places_of(longer, shorter).tolist() == [[BEFORE, BEFORE, AT, AFTER]]
    assert places_of(shorter, longer).tolist() == [[BEFORE, BEFORE]]


def test_a_text_encoder_that_reads_from_left_to_right_tells_the_place():
    """The demo's, at "banana" after "a" and before "in ink style": the first token is the start."""
    host = StandaloneModel(CHECKPOINT, "cpu")
    prompts = [["a banana in ink style", "ink banana"], ["a pear in ink style", "ink pear"]]
    places = places_of(*(host.encode(p) for p in prompts)).tolist()
    assert [row.index(AT) for row in places] == [2, 2]
    assert all(set(row[:2]) == {BEFORE} and set(row[3:]) == {AFTER} for row in places)


def test_without_places_nothing_is_asked_with_a_word():
    host = TinyHost()
    with pytest.raises(ValueError, match="where a word stands"):
        replace(points(host), places=None).asked_with(torch.zeros(6, 3, 8))


@pytest.mark.parametrize("placed", [False, True])
def test_an_attack_learns_to_draw_the_target_and_changes_nothing_else(placed):
    host = TinyHost()
    before = state_of(host)
    attack = WordAttack(host, points(host), words=Words(2, placed), batch=4, rate=0.1, seed=0)
    start = attack.words.clone()
    losses = [float(attack.step()) for _ in range(60)]
    assert start[0].abs().max() == 0 < start[1].abs().max()
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    assert_same(before, state_of(host))


def test_an_attack_in_small_passes_learns_the_same():
    host = TinyHost()
    whole, parts = (WordAttack(host, points(host), words=Words(2), batch=4, rate=0.1, seed=0) for _ in range(2))
    plans = [Plan(2, 1, False, False, 0, None), Plan(1, 2, False, False, 0, None)]
    for attack, plan in zip((whole, parts), plans, strict=True):
        pace = Pace(host, [plan], None)
        for _ in range(5):
            attack.step(pace)
    assert torch.allclose(whole.words, parts.words, atol=1e-5) and whole.words.abs().max() > 0


def test_an_attack_that_fills_the_memory_goes_on_in_smaller_passes(monkeypatch):
    host = TinyHost()
    attack, rows = WordAttack(host, points(host), words=Words(2), batch=4, rate=0.1, seed=0), []
    real = host.denoise

    def denoise(x, sigma, conditioning):
        rows.append(len(x))
        if len(x) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory") if hasattr(torch, "OutOfMemoryError") else MemoryError()
        return real(x, sigma, conditioning)

    monkeypatch.setattr(host, "denoise", denoise)
    attack.step(Pace(host, [Plan(2, 1, False, False, 2, None), Plan(1, 2, False, False, 1, None)], None))
    assert rows == [4, 2, 2]


def test_memory_that_is_full_leaves_what_was_checked_before(short, by_name, monkeypatch):
    def full(*_, **__):
        raise MemoryError

    monkeypatch.setattr(Deep, "attack", full)
    host = TinyHost()
    before = state_of(host)
    result = run(host, wish())
    assert_same(before, state_of(host))
    assert same_factors(result, by_name) and "not enough memory" in result.report["depth"]["remark"]
    assert unfinished(result.report) and not unfinished(by_name.report)


def test_it_goes_on_from_a_training_where_nothing_else_holds(short):
    """Then no layer is new to the change, and there is no penalty: a loss of nothing is no error."""
    result = run(TinyHost(), config(depth="deep", layers="attention", preservation_weight=0.0))
    assert result.report["depth"]["steps"] > 0


def test_a_deep_run_changes_attention_to_the_picture_too_and_says_how_it_went(short, by_name):
    host, seen = TinyHost(), []
    before = state_of(host)
    result = run(host, wish(), progress=lambda r: seen.append(r.fraction))
    assert_same(before, state_of(host))
    assert seen == sorted(seen) and seen[-1] == 1.0
    ends = {name.rsplit("attn2.", 1)[1] for name in result.delta.factors}
    assert ends == {"to_q", "to_k", "to_v", "to_out.0"}
    assert {name.rsplit("attn2.", 1)[1] for name in by_name.delta.factors} == {"to_k", "to_v"}
    depth = result.report["depth"]
    assert depth["attacks"] == [0.8, 0.0] and (depth["rounds"], depth["steps"], depth["kept"]) == (1, 3, True)
    rows = dict(result.summary())
    assert rows["Pictures under learned words read as the target"] == "80% before, 0% after"
    assert rows["How"].endswith("then 3 steps of training against learned words")
    assert result.delta.info.config["depth"] == "deep" and result.delta.info.steps == 3


def test_an_attack_that_fails_at_once_leaves_the_closed_form_as_it_is(short, by_name):
    short[:] = [0.0]
    result = run(TinyHost(), wish())
    assert result.delta.factors.keys() == by_name.delta.factors.keys()
    assert result.report["depth"]["steps"] == 0 and "against" not in result.report["way"]


def test_the_budget_ends_it(short):
    short[:] = [0.9]
    depth = run(TinyHost(), wish()).report["depth"]
    assert depth["attacks"] == [0.9] * 3 and (depth["rounds"], depth["steps"]) == (2, 6)


def test_it_ends_only_when_two_attacks_in_a_row_fail(short):
    short[:] = [0.8, 0.8, 0.0, 0.6, 0.0]
    depth = run(TinyHost(), wish()).report["depth"]
    assert depth["attacks"] == [0.8, 0.6, 0.0] and depth["rounds"] == 2


def same_factors(one, other):
    a, b = one.delta.factors, other.delta.factors
    return a.keys() == b.keys() and all(torch.equal(a[n].matrix(), b[n].matrix()) for n in a)


@pytest.mark.parametrize("at", ["learned for 'banana'", "what has to go"])
def test_a_stop_ends_it_with_what_was_checked_before(short, by_name, at):
    host = TinyHost()
    before = state_of(host)
    result = run(host, wish(), progress=lambda r: at in r.message)
    assert_same(before, state_of(host))
    assert same_factors(result, by_name) and result.report["check"] == by_name.report["check"] | {"depth_kept": False}
    assert result.report["depth"]["kept"] is False and result.report["depth"]["remark"] == deep.Depth.stopped
    assert result.delta.info.stopped
    with pytest.raises(Cancelled):
        run(host, wish(on_stop="discard"), progress=lambda r: at in r.message)
    assert_same(before, state_of(host))


def test_an_error_of_the_host_leaves_every_bit_as_it_was(short):
    host = TinyHost()
    before = state_of(host)

    def broken(report):
        if report.phase == "training" and report.done == 4:
            raise RuntimeError("the host is gone")

    with pytest.raises(RuntimeError, match="gone"):
        run(host, wish(), progress=broken)
    assert_same(before, state_of(host))


def test_a_run_that_was_killed_goes_on_to_the_same_delta(short, tmp_path):
    def made(saved, progress=None):
        return forget_or_go_on(TinyHost(), wish(), Stack(), progress, saved).delta

    def killed(report):
        if report.phase == "training" and report.done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made(SavedWork(tmp_path), killed)
    assert made(SavedWork(tmp_path)).content_hash() == made(NOTHING).content_hash()


def test_what_harms_too_much_is_not_kept(short, by_name, monkeypatch):
    monkeypatch.setattr(attempts, "rank", lambda run, before, attempt: (attempt.further is not None, 0))
    result = run(TinyHost(), wish())
    assert same_factors(result, by_name)
    assert "harms too much" in dict(result.summary())["Depth not kept"]
    assert result.delta.info.check["depth_kept"] is False
    assert dict(result.summary())["Pictures under learned words read as the target"] == "80% before", (
        "what was after it is not the delta's"
    )


def test_a_file_tells_whether_depth_is_part_of_it(short):
    def told(result):
        return made_with(result.delta.info).split("depth ")[1].split(", ")

    kept = run(TinyHost(), wish())
    assert kept.delta.info.check["depth_kept"] is True and told(kept)[0] == "deep"
    stopped = run(TinyHost(), wish(), progress=lambda r: r.phase == "after")
    assert stopped.delta.info.check["depth_kept"] is False and told(stopped)[:2] == ["deep", "not kept"]
    info = kept.delta.info
    older = replace(info, check={k: v for k, v in info.check.items() if k != "depth_kept"})
    assert "depth deep" in made_with(older) and "not kept" not in made_with(older), "it does not say"
    assert "depth" not in made_with(run(TinyHost(), config(closed_form=True)).delta.info)


def test_what_shows_more_than_before_is_not_kept(short, by_name):
    short[:] = [0.3, 0.6]
    result = run(TinyHost(), wish())
    assert same_factors(result, by_name)
    assert "more of the target than before" in dict(result.summary())["Depth not kept"]


def test_wrong_values_are_refused():
    for wrong in ({"depth": "deeper"}, {"depth": "deep", "quality": "quick"}):
        with pytest.raises(BadSetting, match="(?i)depth|deep"):
            ForgetConfig(concept="banana", **wrong)


def test_without_depth_a_request_is_recorded_as_it_always_was():
    assert "depth" not in ForgetConfig(concept="cat").deciding()
    given = ForgetConfig(concept="cat", depth="deep").deciding()
    assert ForgetConfig.from_flat(given).depth == "deep"
