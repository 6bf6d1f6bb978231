"""How a model is asked and counted: the demo's world and its classifier, or the large world's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .grids import captions
from .measures import Measurement
from .models import OPEN, WORLD
from .questions import Observations, Questionnaire, look, preserved_questions, target_questions
from .sequences import sequence, watched


@dataclass(frozen=True)
class Counting:
    """questionnaire: (sequence, number of its requests or None, pictures of a preserved concept) -> all questions.

    look: draws and reads, see `questions.look`. measurement: makes a row of it. look_at_base: as `look`, of the base
    model, with a folder where its answers may be kept. marks: after how many requests everything is counted, and not
    only the new request's own pictures; None: after each. at_once: whether a sequence's requests are to go at once.
    """

    questionnaire: Callable[[str, int | None, int], Questionnaire]
    look: Callable[..., Observations]
    measurement: type[Measurement]
    look_at_base: Callable[..., Observations]
    marks: frozenset[int] | None = None
    at_once: Callable[[str], bool] = lambda sequence: False


def counting(model: str) -> Counting:
    """The one of a model of `models.MODELS`."""
    if model not in (WORLD, OPEN):
        return Counting(
            small_world, look, Measurement, lambda host, asked, seed, steps, _: look(host, asked, seed, steps)
        )
    from .world import base_answers, questions, requests
    from .world.measures import WorldMeasurement

    def large_world(name: str, count: int | None, pictures: int) -> Questionnaire:
        whole = requests.sequence(name)
        return questions.questionnaire(requests.sequence(name, count), whole, requests.watched(whole), pictures)

    return Counting(
        *(large_world, questions.look, WorldMeasurement, base_answers.look_at_base),
        *(requests.MARKS, requests.at_once),
    )


def small_world(name: str, count: int | None, pictures: int) -> Questionnaire:
    """What the demo's world is asked. Raises `BadSetting`."""
    # What is watched belongs to the whole sequence, so that a shorter run is a part of a longer one.
    w = watched(sequence(name))
    requests = sequence(name, count)
    preserved = tuple(preserved_questions(w, pictures))
    targets = tuple(tuple(target_questions(r, w, 2 * pictures)) for r in sequence(name))
    return Questionnaire(requests, w, preserved, targets[: len(requests)], captions(w, targets))
