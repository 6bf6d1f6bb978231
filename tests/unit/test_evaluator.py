"""The check on models whose pictures are known: how pictures are read, what is asked when, and the verdict."""

from contextlib import contextmanager, nullcontext
from dataclasses import replace

import pytest
import torch

from tests.tiny import WORDS, TinyHost
from tests.unit.runs import Pictures, config, opened
from unlearn_core import TrainingFailed
from unlearn_core.evaluate.diffusion_classifier import read_as, reading_errors
from unlearn_core.evaluate.evaluator import (
    Evaluator,
    Questions,
    Reader,
    neighbours_in_list,
)
from unlearn_core.evaluate.glance import Glance
from unlearn_core.evaluate.verdict import too_harmful, verdict
from unlearn_core.method.anchor import Anchor
from unlearn_core.method.checks import evaluator_for, far_concepts
from unlearn_core.progress import Tracker
from unlearn_core.recipe import OBJECT, SMALL, thorough
from unlearn_core.sampling import Sampler
from unlearn_core.words.prompts import Scene, names, scenes, spread
from unlearn_core.words.word_list import WordList

LIST = WordList.load(WORDS)
LEVELS = OBJECT.reading_levels
COLOURS = {"banana": 1.0, "pear": -1.0, "cat": 0.5, "dog": -0.5, "owl": 0.25, "bus": -0.25}


# Reading


def test_reading_errors_by_hand():
    host = Pictures({"red": 1.0, "blue": -1.0})
    latents = torch.full((1, *host.latent_shape), 1.0)
    errors = reading_errors(host, latents, [host.encode(["red"]), host.encode(["blue"])], LEVELS, 0)
    assert errors[0, 0] == pytest.approx(0.0, abs=1e-6)
    sigmas = host.sigmas[[int(part * 99) for part in (0.25, 0.4, 0.55, 0.7, 0.85)]]
    assert errors[0, 1].item() == pytest.approx((4 / sigmas**2).log().mean().exp().item(), rel=1e-4)


def test_pictures_are_read_as_what_they_show():
    host = Pictures({"red": 1.0, "blue": -1.0})
    latents = torch.tensor([0.8, -0.7, 0.1]).view(3, 1, 1, 1).expand(3, *host.latent_shape)
    readings = [host.encode(["red"] * 3), host.encode(["blue"] * 3)]
    assert read_as(host, latents, readings, LEVELS, 0).tolist() == [0, 1, 0]


def rows_of(host, **shown):
    """A row and a picture of each concept. shown: the colour that it is drawn in."""
    rows = [(name, Scene("{an o}", name)) for name in shown]
    colours = torch.tensor(list(shown.values())).view(-1, 1, 1, 1)
    return rows, colours.expand(-1, *host.latent_shape)


def test_a_concept_is_right_when_no_rival_fits_better():
    host = Pictures(COLOURS)
    reader = Reader(host, LIST, LEVELS, 0, lambda: None)
    rows, latents = rows_of(host, cat=0.5, dog=0.45)
    assert reader.shares_right(rows, [["dog", "cat"]], latents) == {"cat": 1.0, "dog": 0.0}
    # a rival with the very same prompt is none
    assert reader.shares_right(rows, [["cat", "dog"]], latents) == {"cat": 1.0, "dog": 1.0}
    twice, both = [*rows, *rows], torch.cat([latents, latents * torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)])
    assert reader.shares_right(twice, [["dog", "cat"] * 2], both) == {"cat": 1.0, "dog": 0.5}


def test_rivals_are_the_next_of_the_same_list():
    rows = [(n, Scene("{o}", n)) for n in ("cat", "cat", "dog", "owl")]
    assert neighbours_in_list(rows, 2) == [["dog", "dog", "owl", "cat"], ["owl", "owl", "cat", "dog"]]


# Asking


class Student(Pictures):
    """Draws some words in other colours than the teacher, which reads."""

    def __init__(self, **drawn):
        super().__init__(COLOURS)
        self.drawn, self.teaching = drawn, False

    def encode(self, prompts):
        true = self.colours
        self.colours = true if self.teaching else {**true, **self.drawn}
        try:
            return super().encode(prompts)
        finally:
            self.colours = true

    @contextmanager
    def teacher(self):
        before, self.teaching = self.teaching, True
        yield
        self.teaching = before


def evaluator(host, recipe=OBJECT, anchor="pear", report=None):
    targets = tuple(scenes(LIST, "banana", "object", 4, 0))
    preserved = {w: tuple(scenes(LIST, w, "object", 2, 0)) for w in ("cat", "dog", "owl", "bus")}
    questions = Questions("banana", "object", anchor, targets, preserved)
    reader, job = Reader(host, LIST, LEVELS, 0, lambda: None), Tracker({"before": 1.0, "after": 1.0}, report)
    return Evaluator(questions, Sampler(host, 2, 1.0), reader, getattr(host, "teacher", nullcontext), recipe, job)


def test_what_is_drawn_as_ever_is_found_and_preserved():
    answers = evaluator(Student()).before()
    assert answers.target_share == 1.0 and answers.preserved == dict.fromkeys(("cat", "dog", "owl", "bus"), 1.0)


def test_what_is_drawn_as_the_anchor_is_gone_and_what_is_harmed_is_named():
    answers = evaluator(Student(banana=-1.0, cat=-0.5)).after()
    assert answers.target_share == 0.0
    assert answers.preserved == {"cat": 0.0, "dog": 1.0, "owl": 1.0, "bus": 1.0}


def test_what_is_drawn_as_nothing_is_gone_too():
    assert evaluator(Student(banana=0.0)).after().target_share == 0.0


def test_pictures_to_show_are_half_the_targets():
    answers = evaluator(Student()).before()
    shown = OBJECT.shown // 2
    assert len(answers.latents) == len(answers.prompts) == 4 + 6 <= OBJECT.shown
    of_target = [names(p, "banana") for p in answers.prompts]
    assert of_target == [True] * min(shown, 4) + [False] * 6


@pytest.mark.parametrize("colour, searching, settled", [(0.6, True, True), (0.495, True, False), (0.45, False, False)])
def test_near_misses_count_while_searching_and_not_when_all_has_settled(colour, searching, settled):
    """Its error as the target is 1.04 times that without it at 0.495, and 1.49 times at 0.45."""
    asked = evaluator(Student(banana=colour))
    assert (asked.still_generated(3, False), asked.still_generated(3, True)) == (searching, settled)


def test_when_all_has_settled_the_share_counts_that_the_verdict_allows():
    assert not evaluator(Student(), replace(OBJECT, forgotten_share=1.0)).still_generated(0, True)


def test_each_look_has_noise_of_its_own_and_its_rounds(monkeypatch):
    asked, seen = evaluator(Student(banana=-1.0), replace(OBJECT, rounds=2)), []
    draw = Evaluator.draw
    monkeypatch.setattr(Evaluator, "draw", lambda self, s, seed: seen.append((len(s), seed)) or draw(self, s, seed))
    asked.before()
    asked.after()
    assert seen == [(4, 1), (8, 2), (8, 1), (8, 2)]
    seen.clear()
    asked.still_generated(5, False)
    asked.still_generated(6, False)
    asked.still_generated(7, True)
    assert seen == [(4, 1010), (4, 1011), (4, 1012), (4, 1013), (8, 1014)]


def test_one_round_is_enough_where_the_target_is_seen(monkeypatch):
    asked, seen = evaluator(Student(), replace(OBJECT, rounds=3)), []
    draw = Evaluator.draw
    monkeypatch.setattr(Evaluator, "draw", lambda self, s, seed: seen.append(seed) or draw(self, s, seed))
    assert asked.still_generated(0, False) and seen == [1000]


def test_looks_are_told_with_pictures():
    told = []
    asked = evaluator(Student(), report=lambda r: told.append(r) and None)
    asked.before()
    assert [r.phase for r in told] == ["before"] * len(told) and (told[-1].done, told[-1].total) == (2, 2)
    assert [len(r.latents) for r in told if r.latents is not None] == [4]


def test_pictures_that_are_no_numbers_count_as_the_targets_and_as_lost():
    broken = evaluator(Student(banana=float("nan"), cat=float("nan"))).after()
    assert broken.target_share == 1.0 and not evaluator(Student()).gone(broken)
    assert broken.preserved["cat"] == 0.0 and broken.preserved["dog"] == 1.0
    assert broken.not_finite == 8 + 2
    found = verdict(evaluator(Student()).before(), broken, OBJECT)
    assert found["not_finite"] == 10 and found["verdict"].startswith("not forgotten, but")
    assert "NaN" in too_harmful(found, OBJECT)
    assert evaluator(Student(banana=float("nan"))).still_generated(0, False)
    assert evaluator(Student(banana=float("nan"))).still_generated(0, True)


def test_a_model_that_draws_no_numbers_before_is_refused():
    with pytest.raises(TrainingFailed, match="not finite.*full precision"):
        evaluator(Student(dog=float("nan"))).before()


# Which check a request has


def test_a_quick_request_has_a_glance_in_place_of_a_check():
    with opened(TinyHost(), config(quality="quick", closed_form=True), recipes=SMALL) as run:
        glance = evaluator_for(run, Anchor("pear", "", ("pear",)))
        assert isinstance(glance, Glance) and glance.before() is glance.after() is None
    assert glance.still_generated(0, False) is glance.still_generated(9, True) is False


def test_a_check_asks_for_near_and_far_concepts_and_the_artists_own():
    host = TinyHost()
    with opened(host, config(keep=("gizmo",)), recipes=SMALL) as run:
        asked = evaluator_for(run, Anchor("pear", "", ("pear", "apple", "cat")))
    preserved = list(asked.questions.preserved)
    assert preserved[:2] == ["pear", "apple"] and preserved[-1] == "gizmo" and len(preserved) == 4
    assert "banana" not in preserved and asked.questions.targets == run.request.held_out
    assert (asked.sampler.steps, asked.sampler.guidance) == (2, 3.0)


def test_styles_that_no_list_names_are_asked_for_as_styles(monkeypatch):
    """By the list's words alone "Greg Rutkowski" was a thing: "a photo of a Greg Rutkowski in a city"."""
    host = TinyHost()
    host.words_file = None
    monkeypatch.setattr("unlearn_core.method.known_words.unknown_words", lambda *_, **__: [])
    wish = config(concept="van gogh style", anchor="Claude Monet", keep=("Greg Rutkowski",))
    with opened(host, wish, recipes=SMALL) as run:
        words = run.request.words
        asked = evaluator_for(run, Anchor("Claude Monet", "", ("Edvard Munch",))).questions
    assert run.request.kind == "style" and words is run.request.general
    for name in ("van gogh", "Claude Monet", "Greg Rutkowski", "Edvard Munch"):
        assert words.kind(name) == "style", name
    assert all(scene.style == name for name in ("Edvard Munch", "Greg Rutkowski") for scene in asked.preserved[name])
    assert words.kind("cat") == words.kind("zog") == "object"
    assert WordList.load(None).kind("Greg Rutkowski") == "object", "a list alone knows its own words"


def test_the_kind_that_somebody_has_said_holds_everywhere():
    with opened(TinyHost(), config(concept="banana", kind="style", anchor="gizmo"), recipes=SMALL) as run:
        assert run.request.words.kind("Banana") == run.request.words.kind("gizmo") == "style"


def test_a_full_check_of_a_model_that_has_nothing_else_is_no_error():
    asked = evaluator(Student())
    asked = replace(asked, questions=replace(asked.questions, preserved={}))
    answers = asked.before()
    assert answers.preserved == {} and len(answers.latents) == 4


def test_far_concepts_of_a_list_that_is_not_its_own_have_entries_in_the_text_encoder(monkeypatch):
    host = TinyHost()
    with opened(host, config(), recipes={kind: replace(OBJECT, group=0) for kind in SMALL}) as run:
        assert far_concepts(run) == spread(run.request.rest.all_objects, OBJECT.checked_far, 5)
        host.words_file = None
        mixed = spread(run.request.rest.all_objects, 100, 5)
        known = mixed[3], mixed[5], mixed[6], mixed[9]
        monkeypatch.setattr("unlearn_core.method.checks.is_spelled_out", lambda host, word: word not in known)
        assert far_concepts(run) == list(known[: OBJECT.checked_far])
        monkeypatch.setattr("unlearn_core.method.checks.is_spelled_out", lambda *_: True)
        assert far_concepts(run) == mixed[: OBJECT.checked_far]


def test_thorough_asks_for_more_and_allows_less():
    host, found = TinyHost(), []
    for quality in ("normal", "thorough"):
        with opened(host, config(quality=quality)) as run:
            found.append(evaluator_for(run, Anchor("pear", "", tuple(f"gizmo {i}" for i in range(20)))))
    normal, careful = found
    assert careful.recipe == thorough(normal.recipe)
    assert len(careful.questions.targets) == 2 * len(normal.questions.targets)
    assert len(careful.questions.preserved) == 2 * len(normal.questions.preserved)
    assert careful.recipe.rounds == normal.recipe.rounds + 1
    assert careful.recipe.anchor_pictures == 2 * normal.recipe.anchor_pictures
    assert careful.recipe.forgotten_share == normal.recipe.forgotten_share / 2
