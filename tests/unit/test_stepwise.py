"""The check that stops when it knows: what it asks, what it does not ask again, and what it costs."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from tests.tiny import WORDS
from tests.unit.runs import opened
from tests.unit.test_evaluator import COLOURS, LEVELS, Student
from unlearn_core import ForgetConfig, TrainingFailed
from unlearn_core.evaluate.evaluator import Questions, Reader
from unlearn_core.evaluate.remembered import Remembered
from unlearn_core.evaluate.stepwise import LAST_LOOK, StepwiseEvaluator
from unlearn_core.evaluate.unharmed import RememberingSampler, Unharmed
from unlearn_core.evaluate.verdict import too_harmful, verdict
from unlearn_core.method.anchor import choose_anchor
from unlearn_core.method.checks import far_concepts
from unlearn_core.progress import Tracker
from unlearn_core.recipe import OBJECT
from unlearn_core.sampling import Sampler
from unlearn_core.words.prompts import names, scenes
from unlearn_core.words.word_list import WordList

LIST = WordList.load(WORDS)
NAMES = ("cat", "dog", "owl", "bus")


class Counting(Student):
    """Counts the rows of its passes. shape: of its latents."""

    def __init__(self, shape=(4, 4, 4), **drawn):
        super().__init__(**drawn)
        self.latent_shape, self.rows, self.passes = shape, 0, 0

    def denoise(self, x, sigma, conditioning):
        self.rows, self.passes = self.rows + len(x), self.passes + 1
        return super().denoise(x, sigma, conditioning)


def evaluator(host, recipe=OBJECT, remembered=None, change=lambda: "one", report=None, led=1.0):
    targets = tuple(scenes(LIST, "banana", "object", 16, 0))
    preserved = {w: tuple(scenes(LIST, w, "object", 2, 0)) for w in NAMES}
    questions = Questions("banana", "object", "pear", targets, preserved)
    reader, job = Reader(host, LIST, LEVELS, 0, lambda: None), Tracker({"before": 1.0, "after": 1.0}, report)
    sampler, teacher = Sampler(host, 8, 1.0), host.teacher
    drawing = RememberingSampler(sampler, 0, nullcontext, remembered or Remembered())
    unharmed = Unharmed(questions, reader, teacher, recipe, drawing)
    parts = questions, sampler, reader, teacher, recipe, job
    return StepwiseEvaluator(*parts, unharmed=unharmed, weights=change, led=lambda: led)


@pytest.mark.parametrize(("led", "pictures"), [(OBJECT.led_enough, 7), (0.69, 32), (0.0, 32)])
def test_the_last_look_at_a_change_that_leads_not_far_is_at_all_pictures(led, pictures):
    asked = evaluator(Counting(banana=-1.0), led=led)
    asked.before()
    assert not asked.still_generated(0, False) and len(asked.look_of(LAST_LOOK).margins) == 7
    asked.after()
    assert len(asked.look_of(LAST_LOOK).margins) == pictures


def test_what_is_clear_is_known_from_seven_pictures_that_are_drawn_together():
    host = Counting(banana=-1.0)
    asked = evaluator(host)
    before = asked.before()
    assert before.preserved == dict.fromkeys(NAMES, 1.0) and len(before.latents) == 6 + 4
    host.rows = host.passes = 0
    assert not asked.still_generated(0, False)
    assert host.rows == 7 * (8 + 3) and host.passes == 8 + 1, "what they are read as goes together, too"
    after = asked.after()
    assert after.target_share == 0.0 and after.preserved == before.preserved
    assert host.rows == 7 * (8 + 3) + 4 * 8, "nothing of the target is drawn or read again, and nothing has changed"
    assert verdict(before, after, OBJECT)["verdict"] == "forgotten, the rest preserved"


@pytest.mark.parametrize("shape", [(4, 4, 4), (4, 8, 8), (16, 2, 4)])
def test_what_it_costs_does_not_depend_on_the_layout(shape):
    """A whole check of a change that does what it should: pictures are drawn by 8 passes here, without guidance."""
    host = Counting(shape, banana=-1.0)
    asked = evaluator(host)
    asked.before()
    assert not asked.still_generated(0, False)
    asked.after()
    assert host.rows == 6 * 11 + 4 * (8 + 6) + 7 * 11 + 4 * 8 < 240


def test_the_choice_of_an_anchor_costs_few_rows():
    rows = []
    host = Counting()
    host.colours, host.default = {"banana": 1.0, "pear": 0.4}, 5.0
    host.denoise = lambda x, *more: rows.append(len(x)) or Student.denoise(host, x, *more)
    with opened(host, ForgetConfig(concept="banana")) as run:
        rows.clear()
        assert choose_anchor(run).name == "pear"
    assert sum(rows) <= 320


def test_a_rival_that_stands_there_twice_is_read_once_and_none_is_no_doubt():
    host = Counting()
    asked = evaluator(host).unharmed
    asked.questions = replace(asked.questions, anchor="banana", preserved=dict.fromkeys(NAMES[:1], ()))
    picture = torch.full((1, *host.latent_shape), COLOURS[NAMES[0]])
    row = [(NAMES[0], scenes(LIST, NAMES[0], "object", 1, 0)[0])]
    assert asked.margins(row, picture, True)[0] > 0 and host.rows == 2, "it, and the target, which stands in for itself"
    asked.questions = replace(asked.questions, concept=NAMES[0], anchor=NAMES[0])
    assert asked.margins(row, picture, True) == [float("inf")] and host.rows == 2
    assert not asked.margins(row, picture * float("nan"), True)[0] > 0


def test_another_change_is_looked_at_anew():
    host, changes = Counting(banana=-1.0), iter("aab")
    asked = evaluator(host, change=lambda: next(changes))
    for rows in (7 * 11, 7 * 11, 14 * 11):
        assert not asked.still_generated(0, False)
        assert host.rows == rows


def test_a_picture_that_has_shown_the_target_is_asked_for_first_by_the_next_try(monkeypatch):
    """Another fit is worth no look at all the others while that one still shows it."""
    host, change = Counting(banana=-1.0), ["first"]
    asked = evaluator(host, change=lambda: change[0])
    judged, numbers, shows = StepwiseEvaluator.judged, [], {"first": 3, "second": 3, "third": -1, "fourth": 5}

    def by_number(self, some, *more):
        numbers.append(list(some))
        drawn, margins = judged(self, some, *more)
        return drawn, [1.0 if i == shows[change[0]] else m for i, m in zip(some, margins, strict=True)]

    monkeypatch.setattr(StepwiseEvaluator, "judged", by_number)
    every = list(range(7))
    for name, found, looked in (
        ("first", True, [every]),
        ("second", True, [[3]]),
        ("third", False, [[3], every]),
        ("fourth", True, [[3], every]),
    ):
        numbers.clear()
        change[0] = name
        assert asked.still_generated(0, False) is found and numbers == looked, name
    numbers.clear()
    assert not asked.still_generated(4, True) and numbers[0] == [*range(7, 15)], "the verdict's own question counts all"


def test_training_is_asked_with_other_noise_each_time():
    host = Counting(banana=-1.0)
    asked = evaluator(host)
    asked.job._costs["training"] = (0.0, 1.0)
    asked.job.start("training", 1)
    for number in (1, 2):
        assert not asked.still_generated(number, False)
    assert host.rows == 2 * 7 * 11


@pytest.mark.parametrize("colour, searching, settled", [(0.6, True, True), (0.495, True, False), (0.1, False, False)])
def test_near_misses_count_while_searching_and_not_when_all_has_settled(colour, searching, settled):
    asked = evaluator(Counting(banana=colour))
    assert (asked.still_generated(3, False), asked.still_generated(3, True)) == (searching, settled)


def test_what_is_still_there_is_known_after_one_group_while_searching():
    host = Counting()
    asked = evaluator(host)
    assert asked.still_generated(0, False) and host.rows <= 4 * (8 + 15)
    assert asked.after().target_share == 1.0


def test_what_is_not_clear_is_looked_at_in_full():
    asked = evaluator(Counting(banana=0.495))
    asked.still_generated(0, True)
    (look,) = asked._looks.values()
    assert len(look.margins) == 16 * OBJECT.rounds


def test_what_is_lost_is_named_and_all_its_pictures_are_looked_at():
    host = Counting(banana=-1.0)
    asked = evaluator(host)
    before = asked.before()
    host.drawn, drawn = {"banana": -1.0, "cat": -0.5}, []
    draw = asked.unharmed.sampler.draw
    object.__setattr__(asked.unharmed.sampler, "draw", lambda s, b: drawn.append((len(s), b)) or draw(s, b))
    found = verdict(before, asked.after(), OBJECT)
    assert found["worst_neighbour"] == {"concept": "cat", "lost": 1.0}
    assert found["verdict"] == "forgotten, but 'cat' and others are harmed" and found["preserved_after"] == 0.75
    assert drawn[0] == (4, False) and (4, True) in drawn and len(drawn) == 3


def test_what_was_never_drawn_right_is_looked_at_twice_and_not_known():
    host = Counting()
    host.colours = {**host.colours, "cat": host.colours["dog"]}
    before = evaluator(host).before()
    assert before.preserved["cat"] == 0.0 and before.preserved["owl"] == 1.0
    assert "cat" in verdict(before, before, OBJECT)["not_known"]


def test_pictures_that_are_no_numbers_count_as_the_targets_and_as_lost():
    good = evaluator(Counting()).before()
    asked = evaluator(host := Counting(banana=-1.0))
    asked.before()
    host.drawn = {"banana": float("nan"), "cat": float("nan")}
    broken = asked.after()
    assert broken.target_share == 1.0 and broken.preserved["cat"] == 0.0 and broken.preserved["dog"] == 1.0
    assert broken.not_finite >= 4 and "NaN" in too_harmful(verdict(good, broken, OBJECT), OBJECT)
    with pytest.raises(TrainingFailed, match="not finite"):
        evaluator(Counting(dog=float("nan"))).before()


def test_pictures_of_before_are_remembered(tmp_path):
    first = evaluator(host := Counting(), remembered=Remembered(tmp_path, "model")).before()
    cost, host.rows = host.rows, 0
    again = evaluator(host, remembered=Remembered(tmp_path, "model")).before()
    assert host.rows == cost - 4 * 8 and again.preserved == first.preserved
    assert torch.equal(first.latents, again.latents)


def test_shown_pictures_were_judged_and_their_prompts_are_the_same_before_and_after():
    asked = evaluator(Counting(banana=-1.0))
    before, after = asked.before(), asked.after()
    assert before.prompts == after.prompts and len(after.latents) == len(after.prompts) == 10
    (look,) = asked._looks.values()
    assert torch.equal(after.latents[:6], torch.cat(look.latents)[:6])
    assert [names(p, "banana") for p in after.prompts] == [True] * 6 + [False] * 4


def test_nothing_to_preserve_is_no_reason_to_fail():
    asked = evaluator(Counting(banana=-1.0))
    empty = replace(asked.questions, preserved={})
    asked.unharmed.questions = empty
    assert asked.before().preserved == {} and asked.after().preserved == {}


def test_far_concepts_are_the_same_for_every_target_so_that_they_may_be_remembered():
    found = {}
    for concept in ("banana", "frog"):
        with opened(Counting(), ForgetConfig(concept=concept)) as run:
            found[concept] = far_concepts(run)
    assert found["banana"] == found["frog"] and len(found["frog"]) == OBJECT.checked_far
