"""What the world's model is asked: by name, by synonym, by description, and for two things at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from unlearn_core.delta.stack import Stack
from unlearn_core.demo.recognition import STEPS, Question
from unlearn_core.host import HostModel
from unlearn_core.preview import pictures
from unlearn_core.sampling import Sampler

from ..questions import SEED, Answer, Observations, Questionnaire
from ..sequences import Watched
from .captions import (
    DESCRIBED,
    DESCRIBED_HELD_OUT,
    HELD_OUT,
    PAIRS,
    PAIRS_HELD_OUT,
    TEMPLATES,
    fill,
)
from .classifier import WorldClassifier, halves
from .requests import WorldRequest
from .things import PAIR_STYLES, by_name

AND = " + "
"""Between the names of two things in one picture."""
COMPOSED = 64
"""Pictures of two preserved things."""
WAYS = ("name", "synonym", "description")


@dataclass(frozen=True)
class Asked(Question):
    """way: how the thing is called, one of `WAYS`, or "pair" for two things."""

    way: str = "name"


def about(name: str, style: str, number: int, way: str = "name") -> Asked:
    """One caption about a thing in a style; numbers go through all templates, held-out ones too."""
    thing = by_name()[name]
    if way == "description":
        templates = [*DESCRIBED, *DESCRIBED_HELD_OUT]
        return Asked(fill(templates[number % len(templates)], d=thing.description, s=style), name, style, way)
    templates = [*TEMPLATES, *HELD_OUT]
    words = thing.synonym if way == "synonym" else name
    return Asked(fill(templates[5 * number % len(templates)], o=words, s=style), name, style, way)


def composed(left: str, right: str, number: int) -> Asked:
    """One caption about two things."""
    templates, style = [*PAIRS, *PAIRS_HELD_OUT], PAIR_STYLES[number % len(PAIR_STYLES)]
    return Asked(fill(templates[number % len(templates)], o=left, p=right, s=style), left + AND + right, style, "pair")


def preserved_questions(w: Watched, each: int) -> list[Asked]:
    """Every watched thing `each` times by name, and pairs of them, the near ones first."""
    found = [
        about(name, w.styles[(i + k) % len(w.styles)], i + 3 * k)
        for k, name in enumerate(w.objects)
        for i in range(each)
    ]
    styles = [s for s in PAIR_STYLES if s in w.styles]
    ranked = sorted(w.objects, key=lambda name: name not in w.near)
    pairs = [(ranked[i % len(ranked)], ranked[(7 * i + 3) % len(ranked)]) for i in range(COMPOSED)]
    return [*found, *(composed(a, b, i) for i, (a, b) in enumerate(pairs) if a != b and styles)]


def target_questions(request: WorldRequest, w: Watched, count: int) -> list[Asked]:
    """A request's concept `count` times by name, and a thing half as often by its synonym and by its description."""
    if request.kind == "style":
        return [about(w.objects[3 * i % len(w.objects)], request.concept, i) for i in range(count)]
    return [
        about(request.concept, w.styles[i % len(w.styles)], i, way)
        for way, times in zip(WAYS, (count, count // 2, count // 2), strict=True)
        for i in range(times)
    ]


def questionnaire(
    requests: Sequence[WorldRequest], whole: Sequence[WorldRequest], w: Watched, each: int
) -> Questionnaire:
    """All questions of the first requests of a whole sequence."""
    targets = tuple(tuple(target_questions(r, w, 2 * each)) for r in whole)
    close = sorted(w.objects, key=lambda o: (o not in w.near, o not in w.held_out))[:8]
    columns = [group[0].caption for group in targets[:10]]
    columns += [about(o, w.styles[i % len(w.styles)], 0).caption for i, o in enumerate(close)]
    return Questionnaire(
        tuple(requests), w, tuple(preserved_questions(w, each)), targets[: len(requests)], tuple(columns)
    )


@torch.no_grad()
def look(host: HostModel, asked: Sequence[Question], seed: int, steps: int = STEPS) -> Observations:
    """Draw and read; picture i has noise i of the seed. Of two things both are read, left and right."""
    drawn = pictures(Sampler(host, steps), Stack(), [q.caption for q in asked], SEED + seed) * 2 - 1
    net = WorldClassifier.load()
    features = torch.cat([net.features(part) for part in drawn.split(64)])
    answers = net.recognise(drawn)
    two = [i for i, q in enumerate(asked) if AND in q.obj]
    if two:
        sides = [net.recognise(side) for side in halves(drawn[two])]
        for i, (left, style), (right, _) in zip(two, *sides, strict=True):
            answers[i] = (left + AND + right, style)
    return Observations(tuple(Answer(*a) for a in answers), features)
