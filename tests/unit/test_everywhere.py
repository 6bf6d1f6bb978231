"""Scope: pictures that show the target unasked, and a run that goes on until none does."""

import random
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from tests.tiny import TinyHost
from tests.unit.runs import assert_same, config, opened, run, state_of
from unlearn_core import BadSetting, Cancelled, ForgetConfig, Stack
from unlearn_core.evaluate.evaluator import Evaluator
from unlearn_core.evaluate.unasked import Sight, UnaskedReader
from unlearn_core.host import Conditioning
from unlearn_core.method import attempts, everywhere
from unlearn_core.method.adapters import attached
from unlearn_core.method.broad_pictures import Broad, broad_scenes, joined, part_of, with_concept
from unlearn_core.method.everywhere import Everywhere, Unasked, led_away
from unlearn_core.method.forget import forget_or_go_on
from unlearn_core.method.learned_word import Points
from unlearn_core.method.plan import expected_everywhere
from unlearn_core.method.prompt_pairs import PromptPairs
from unlearn_core.recipe import DEFAULT, SMALL
from unlearn_core.sampling import Drawing, Sampler, noise
from unlearn_core.saved_work import NOTHING, SavedWork
from unlearn_core.words.prompts import Scene
from unlearn_core.words.word_list import WordList

FEW = {"UNASKED_ROUNDS": 2, "UNASKED_STEPS": 3, "BROAD_FIRST": 4, "BROAD_MORE": 4, "BROAD_AGAIN": 4}


def wish(**changes):
    return config(closed_form=True, scope="everywhere", **changes)


@pytest.fixture
def short(monkeypatch):
    """Few steps, and pictures of which so many show it in turn: the list that the fixture is, the last one for good.

    The first three draws are one round.
    """
    for kind, recipe in SMALL.items():
        monkeypatch.setitem(DEFAULT, kind, recipe)
    for name, value in {**FEW, "POINTS": 2, "POINTS_AGAIN": 1}.items():
        monkeypatch.setattr(everywhere, name, value)
    counts, real = [2, 0], Everywhere.draw

    def draw(self, count, shares, number, again=()):
        drawn = real(self, count, shares, number, again)
        shown = torch.arange(len(drawn.shown)) - len(again) < counts[min(max(0, number - 2), len(counts) - 1)]
        one_style = [replace(scene, style="ink") for scene in drawn.scenes]
        return replace(drawn, shown=shown, scenes=one_style)

    monkeypatch.setattr(Everywhere, "draw", draw)
    monkeypatch.setattr(Evaluator, "still_generated", lambda *_: False)
    return counts


@pytest.fixture
def by_name(short):
    """What the same request gives by its name alone."""
    return run(TinyHost(), config(closed_form=True))


def same_factors(one, other):
    a, b = one.delta.factors, other.delta.factors
    return a.keys() == b.keys() and all(torch.equal(a[n].matrix(), b[n].matrix()) for n in a)


@contextmanager
def at_work(host):
    """A run that has come to where pictures are drawn."""
    with opened(host, wish(), recipes=SMALL) as made:
        pairs = PromptPairs.make(made.request, "pear")
        made.job.extend(expected_everywhere(made.request))
        with attached(made.backbone, made.edits.paths, 2, 0) as adapters:
            yield Everywhere.prepare(made, pairs, adapters, Unasked())


class Corner:
    """Answers where a picture of one corner in light or dark came from; "stamp" in the prompt says light."""

    sigmas = torch.linspace(0.1, 2.0, 20)

    def encode(self, prompts):
        return Conditioning(torch.tensor([float("stamp" in p) for p in prompts]).view(-1, 1, 1))

    def noised(self, latents, sigma, noise):
        return latents + sigma.view(-1, 1, 1, 1) * noise

    def denoise(self, x, sigma, conditioning):
        clean = torch.zeros_like(x)
        clean[:, :, 0, 0] = conditioning.tokens.view(-1, 1)
        return clean


def test_a_picture_is_read_where_the_words_move_the_answer():
    host, latents = Corner(), torch.zeros(3, 2, 8, 8)
    latents[1, :, 0, 0] = 1.0
    latents[2, :, 4:] = 3.0  # something else, far larger, of which the words say nothing
    asked, with_it = host.encode(["a cat"] * 3), host.encode(["a cat with a stamp"] * 3)
    seen = UnaskedReader(host, (0.5, 0.8)).look_for(latents, (asked, with_it), seed=0)
    assert (seen.margins > 0).tolist() == [False, True, False] and len(seen) == 3
    assert seen.places.shape == (3, 1, 8, 8) and seen.places[:, 0, 0, 0].tolist() == [1.0] * 3
    assert seen.places.flatten(1).sum(1).tolist() == [8.0] * 3, "an eighth of 64 places"


def test_what_is_drawn_anew_is_read_at_the_old_places():
    host, latents = Corner(), torch.zeros(2, 2, 8, 8)
    latents[1, :, 0, 0] = 1.0
    prompts = host.encode(["a cat"] * 2), host.encode(["a cat with a stamp"] * 2)
    reader = UnaskedReader(host, (0.5, 0.8))
    seen = reader.look_for(latents, prompts, seed=0)
    for pictures, expected in ((latents, [False, True]), (latents.flip(0), [True, False])):
        assert (reader.read_again(pictures, prompts, 1, seen) > 0).tolist() == expected
    elsewhere = replace(seen, read=torch.full((2, 1), 63))
    assert not (reader.read_again(latents, prompts, 1, elsewhere) > 0).any(), "neither answer is wrong there"


def test_an_answer_is_led_to_the_other_picture_along_the_way_between_them_alone():
    """At x = 4 and noise level 2 the way to 0 is 2 and the way to 2 is 1; the second channel is the same in both."""
    x, sigma = torch.full((3, 2, 1, 1), 4.0), torch.full((3,), 2.0)
    answers = torch.tensor([[2.0, 5.0], [1.5, -1.0], [0.0, 0.0]]).view(3, 2, 1, 1)
    first = torch.zeros_like(x)
    second = first + torch.tensor([2.0, 0.0]).view(1, 2, 1, 1)
    led = led_away(answers, x, sigma, (first, second)).flatten(1).tolist()
    assert led == [[1.0, 5.0], [1.0, -1.0], [1.0, 0.0]], "the last one had gone too far"
    assert torch.equal(led_away(answers, x, sigma, (first, first)), answers), "no other picture was found"


def test_the_concept_is_added_to_a_prompt():
    assert with_concept("a cat", "stamp", "object") == "a cat with a stamp"
    assert with_concept("a cat", "old frame", "object") == "a cat with an old frame"
    assert with_concept("a cat", "vignette", "style") == "a cat, vignette"


def test_styles_where_it_was_seen_are_drawn_more_often():
    words = WordList.load(TinyHost.words_file)
    even, more = (broad_scenes(words, 300, 1, s) for s in ({}, {"ink": 0.4}))
    count = [sum(s.style == "ink" for s in scenes) for scenes in (even, more)]
    assert 45 < count[0] < 105 and count[1] > 240
    assert {s.obj for s in even} == set(words.all_objects) and all(s.obj in s.prompt for s in even)
    assert broad_scenes(words, 300, 1, {}) == even != broad_scenes(words, 300, 2, {})


def test_without_styles_things_are_asked_for_alone():
    bare = SimpleNamespace(
        styles=(),
        templates=("{an o} in {s} style",),
        object_templates=("{an o}",),
        all_objects=("cat",),
        suffixes=("",),
    )
    scenes = broad_scenes(bare, 3, 0, {})
    assert [s.prompt for s in scenes] == ["a cat"] * 3
    assert {part_of(scenes[0], bare, random.Random(i)) for i in range(60)} == {"a cat", ""}


def test_most_pictures_are_asked_for_by_their_own_prompt():
    words, rng = WordList.load(TinyHost.words_file), random.Random(0)
    scene = Scene("{an o} in {s} style", "cat", "ink")
    asked = [part_of(scene, words, rng) for _ in range(400)]
    assert 290 < asked.count(scene.prompt) < 350 and "" in asked and "ink style" in asked
    assert any("cat" in p and "ink" not in p for p in asked)


def test_pictures_that_show_it_are_learned_from_most_and_then_others_of_their_style():
    scenes = [Scene("", "cat", s) for s in ("ink", "ink", "ink", "flat")]
    drawn = pictures(scenes, [True, False, False, False])
    assert drawn.seen() == [(scenes[0], 0.0)] and drawn.share({"ink", "flat"}) == 0.25
    assert drawn.share({"ink"}) == pytest.approx(1 / 3) and drawn.share({"flat"}) == drawn.share({"blob"}) == 0.0
    assert replace(drawn, again=1).share({"ink"}) == 0.0, "what was drawn again says nothing of how often it comes"
    assert drawn.shares() == {"ink": pytest.approx(1 / 3), "flat": 0.0}
    assert drawn.interest().tolist() == pytest.approx([2 / 3 + 0.1, 1 / 3 + 0.1, 1 / 3 + 0.1, 0.1])
    assert joined([drawn, drawn]).shares() == drawn.shares() and len(joined([drawn, drawn]).scenes) == 8


def pictures(scenes, shown):
    """Pictures that are nothing but their numbers."""
    numbers = torch.arange(float(len(scenes)))
    margins = torch.where(torch.tensor(shown), 1.0, -1.0)
    return Broad.make(scenes, Drawing(numbers, numbers), Sight(margins, numbers, numbers))


def test_what_is_seen_seldom_in_other_styles_is_something_alike():
    scenes = [Scene("", "cat", s) for s in ("ink", "flat", "blob") for _ in range(4)]
    drawn = pictures(scenes, [True] * 4 + [True, True, False, False] + [True, False, False, False])
    assert drawn.leading() == {"ink", "flat"}, "half as often is enough"
    only = drawn.only(drawn.leading())
    assert only.shown.tolist() == [True] * 6 + [False] * 6 and only.shares()["blob"] == 0.0
    assert pictures(scenes, [False] * 12).leading() == {"ink", "flat", "blob"}


def test_what_is_learned_leads_away_from_it_and_only_where_it_is(short):
    host = TinyHost()
    with at_work(host) as work:
        work.styles = frozenset({"ink"})
        start, places = noise((2, *host.latent_shape), 1, host.device), torch.zeros(2, 1, 4, 4)
        places[:, :, 0, 0] = 1.0
        latents = noise(start.shape, 2, host.device)
        without = torch.where(places.bool(), latents + torch.tensor([5.0, 0.0]).view(2, 1, 1, 1), latents)
        scenes = [Scene("{an o} in {s} style", "cat", "ink")] * 2
        sight = Sight(torch.tensor([1.0, -1.0]), torch.zeros(2, 1), places)
        work.learn_from(replace(Broad.make(scenes, Drawing(start, latents), sight), without=without), 0)
        (points,) = work.pool
        with work.adapters.off():
            before = work.answers(points.x, points.sigma, points.prompts)
        away = points.goal - before
        assert away.flatten(2)[:, :, 1:].abs().max() == 0
        led = away[:, :, 0, 0]
        shown = led.abs().amax(1) > 0
        assert 0 < shown.sum() < len(shown), "the other picture has nothing to lead to"
        # between the pictures all channels differ by the same, so that what is led is the mean of the channels
        to = ((points.x - latents[:1] - 5 * places[:1]) / points.sigma.view(-1, 1, 1, 1))[:, :, 0, 0]
        means = (points.goal[:, :, 0, 0].mean(1) - to.mean(1))[shown]
        assert means.abs().max() < 1e-4 and torch.allclose(led, led[:, :1].expand_as(led), atol=1e-4)


def test_points_are_kept_where_all_of_them_fit(short, monkeypatch):
    """What is told to go to the CPU: the prompts before they are taken, and then the points."""
    gone, whole = [], (Conditioning.to, Points.to)

    def to(self, device):
        gone.append((self, device.type))
        return whole[isinstance(self, Points)](self, device)

    monkeypatch.setattr(Conditioning, "to", to)
    monkeypatch.setattr(Points, "to", to)
    with at_work(TinyHost()) as work:
        prompts, points, *rest = gone
        assert isinstance(points[0], Points) and [device for _, device in gone[:2]] == ["cpu", "cpu"]
        assert not isinstance(prompts[0], Points) and len(work.named) == len(points[0])
        assert all(points[0].prompts is part for part, _ in rest), "and nothing else has moved"


def test_styles_that_do_not_show_it_are_held_as_they_were_before(short):
    """The picture counts as shown and has another beside it, but in a style that does not lead."""
    host = TinyHost()
    with at_work(host) as work:
        work.styles = frozenset({"flat"})
        start, places = noise((1, *host.latent_shape), 1, host.device), torch.ones(1, 1, 4, 4)
        sight = Sight(torch.tensor([1.0]), torch.zeros(1, 1), places)
        drawn = Broad.make([Scene("{an o} in {s} style", "cat", "ink")], Drawing(start, start), sight)
        work.learn_from(replace(drawn, without=start + 5), 0)
        (points,) = work.pool
        with work.adapters.off():
            assert torch.equal(points.goal, work.answers(points.x, points.sigma, points.prompts))


def test_only_the_places_are_drawn_again():
    host = TinyHost()
    sampler, asked = Sampler(host, 3, 2.0), host.encode(["a cat", "a dog"])
    start, fresh = (noise((2, *host.latent_shape), seed, host.device) for seed in (1, 9))
    drawn, places = Drawing(start, sampler.from_noise(asked, start)), torch.zeros(2, 1, 4, 4)
    assert torch.equal(sampler.drawn_again(asked, drawn, places, 9), drawn.latents)
    places[:, :, 1:3] = 1.0
    again = sampler.drawn_again(asked, drawn, places, 9)
    changed = (again - drawn.latents).abs().amax(1) > 0
    assert torch.equal(changed, places[:, 0].bool())
    assert torch.equal(sampler.drawn_again(asked, drawn, torch.ones_like(places), 9), sampler.from_noise(asked, fresh))


class Marked:
    """Sees a mark in the first pictures of every draw, and where they are drawn again not before the second time."""

    def __init__(self):
        self.asked = []

    def look_for(self, latents, prompts, seed):
        shown = torch.tensor([1.0, 1.0] + [-1.0] * (len(latents) - 2))
        places = torch.zeros(len(latents), 1, *latents.shape[2:])
        places[:, :, 0] = 1.0
        return Sight(shown, torch.zeros(len(latents), 1, dtype=torch.long), places)

    def read_again(self, latents, prompts, seed, sight):
        self.asked.append(len(latents))
        return torch.tensor([0.1 if len(self.asked) == 1 and i == 1 else -0.1 for i in range(len(latents))])


def test_what_shows_it_is_drawn_again_until_it_does_not(short, monkeypatch):
    host, reader = TinyHost(), Marked()
    monkeypatch.setattr(Everywhere, "reader", reader)
    with at_work(host) as work:
        pairs_of = work.with_pairs(work.draw(4, {}, 0), 0)
    changed = (pairs_of.without - pairs_of.drawn.latents).abs().amax((1, 2, 3)) > 0
    assert reader.asked == [2, 1] and changed.tolist() == [True, True, False, False]


def test_a_run_changes_all_attention_and_says_how_it_went(short, by_name):
    host, seen = TinyHost(), []
    before = state_of(host)
    result = run(host, wish(), progress=lambda r: seen.append(r.fraction))
    assert_same(before, state_of(host))
    assert seen == sorted(seen) and seen[-1] == 1.0
    assert {name.rsplit("attn2.", 1)[1] for name in result.delta.factors} == {"to_q", "to_k", "to_v", "to_out.0"}
    assert {name.rsplit("attn2.", 1)[1] for name in by_name.delta.factors} == {"to_k", "to_v"}
    scope = result.report["scope"]
    assert scope["shares"] == [0.5, 0.0] and (scope["rounds"], scope["steps"], scope["kept"]) == (1, 3, True)
    rows = dict(result.summary())
    assert rows["Pictures that show it unasked"] == "50% before, 0% after"
    assert rows["How"].endswith("then 3 steps of training against pictures that show it unasked")
    assert result.delta.info.config["scope"] == "everywhere" and "depth" not in result.report


def test_what_nobody_sees_leaves_the_closed_form_as_it_is(short, by_name):
    short[:] = [0]
    result = run(TinyHost(), wish())
    assert same_factors(result, by_name) and result.report["scope"]["steps"] == 0


def test_the_budget_ends_it(short):
    short[:] = [3]
    scope = run(TinyHost(), wish()).report["scope"]
    assert scope["shares"] == [0.75, 1.0, 1.0], "of four pictures two are drawn again, and do not count"
    assert (scope["rounds"], scope["steps"]) == (2, 6)


@pytest.mark.parametrize("at", ["appear nowhere", "what has to go"])
def test_a_stop_ends_it_with_what_was_checked_before(short, by_name, at):
    host = TinyHost()
    before = state_of(host)
    result = run(host, wish(), progress=lambda r: at in r.message)
    assert_same(before, state_of(host))
    assert same_factors(result, by_name) and result.report["check"] == by_name.report["check"] | {"scope_kept": False}
    assert result.report["scope"]["kept"] is False and result.report["scope"]["remark"] == Unasked.stopped
    with pytest.raises(Cancelled):
        run(host, wish(on_stop="discard"), progress=lambda r: at in r.message)
    assert_same(before, state_of(host))


def test_a_run_that_was_killed_goes_on_to_the_same_delta(short, tmp_path):
    def made(saved, progress=None):
        return forget_or_go_on(TinyHost(), wish(), Stack(), progress, saved).delta

    def killed(report):
        if report.phase == "training" and report.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made(SavedWork(tmp_path), killed)
    assert made(SavedWork(tmp_path)).content_hash() == made(NOTHING).content_hash()


def test_what_harms_too_much_is_not_kept(short, by_name, monkeypatch):
    monkeypatch.setattr(attempts, "rank", lambda run, before, attempt: (attempt.further is not None, 0))
    result = run(TinyHost(), wish())
    assert same_factors(result, by_name)
    assert "harms too much" in dict(result.summary())["Scope not kept"]
    assert result.delta.info.check["scope_kept"] is False
    assert dict(result.summary())["Pictures that show it unasked"] == "50% before", (
        "what was after it is not the delta's"
    )


def test_what_shows_more_than_before_is_not_kept(short, by_name):
    short[:] = [0.3, 0.6]
    result = run(TinyHost(), wish())
    assert same_factors(result, by_name)
    assert "more of the target than before" in dict(result.summary())["Scope not kept"]


def test_wrong_values_are_refused():
    for wrong in ({"scope": "nowhere"}, {"scope": "everywhere", "quality": "quick"}):
        with pytest.raises(BadSetting, match="(?i)scope|everywhere"):
            ForgetConfig(concept="banana", **wrong)
    with pytest.raises(BadSetting, match="together"):
        ForgetConfig(concept="banana", scope="everywhere", depth="deep")


def test_by_name_a_request_is_recorded_as_it_always_was():
    assert "scope" not in ForgetConfig(concept="cat").deciding()
    given = ForgetConfig(concept="cat", scope="everywhere").deciding()
    assert ForgetConfig.from_flat(given).scope == "everywhere"


def test_a_stop_is_heard_while_pictures_are_drawn(short, by_name):
    """Drawing takes longest, and is no step of the training."""
    asked, after = [], []

    def progress(report):
        if "appear nowhere" in report.message:
            asked.append(report)
        if asked and report.phase == "training":
            after.append(report)
        return bool(asked)

    result = run(TinyHost(), wish(), progress=progress)
    assert result.report["scope"]["remark"] == Unasked.stopped and same_factors(result, by_name)
    assert len(after) <= 3, "at the next sign of life"


def test_where_a_list_has_no_other_thing_pictures_are_of_something():
    words = WordList.load(TinyHost.words_file)
    bare = replace(words, objects={})
    assert {s.obj for s in broad_scenes(bare, 5, 0, {})} == {"thing"}
