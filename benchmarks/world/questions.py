"""What the world's model is asked: by name, by synonym, by description, and for two things at once.

The same caption of the same seed has the same noise wherever it is asked, so that the base model's answers serve all
sequences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import torch
from torch import Tensor

from unlearn_core.delta.stack import Stack
from unlearn_core.demo.recognition import STEPS, Question
from unlearn_core.host import HostModel
from unlearn_core.sampling import Sampler, noise, schedule

from ..models import guidance_of
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
from .things import PAIR_STYLES, STYLES, by_name, things

AND = " + "
"""Between the names of two things in one picture."""
WAYS = ("name", "synonym", "description")
NEAR, NAMED, OTHERWISE, COMPOSED = 4, 6, 2, 32
"""Pictures for each one of a far thing: of a near one, of a target by its name, by each other way, of pairs in all."""
PAIRS_ASKED = 400
"""Pairs of things out of which those are taken that no request concerns."""


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
    """Every watched thing by name, near ones more often, and pairs of them, those with a near one first."""
    styles = [name for name in STYLES if name in w.styles]
    places = {t.name: i for i, t in enumerate(things())}
    found = [
        about(name, styles[(i + places[name]) % len(styles)], i + 3 * places[name])
        for name in w.objects
        for i in range(each * (NEAR if name in w.near else 1))
    ]
    return [*found, *pairs_of(w, COMPOSED * each)]


def pairs_of(w: Watched, count: int) -> list[Asked]:
    """Pictures of two watched things; none where a style that pairs are drawn in goes."""
    if not {*PAIR_STYLES} <= {*w.styles}:
        return []
    names, watched = [t.name for t in things()], {*w.objects}
    pairs = [
        (i, names[7 * i % len(names)], names[(11 * i + 5 + i // len(names)) % len(names)]) for i in range(PAIRS_ASKED)
    ]
    left = [(i, a, b) for i, a, b in pairs if a != b and {a, b} <= watched]
    left.sort(key=lambda pair: not {*pair[1:]} & w.near)
    return [composed(a, b, i) for i, a, b in left[:count]]


def target_questions(request: WorldRequest, w: Watched, each: int) -> list[Asked]:
    """A request's concept by name, and a thing by its synonym and by its description."""
    if request.kind == "style":
        return [about(w.objects[3 * i % len(w.objects)], request.concept, i) for i in range(NAMED * each)]
    return [
        about(request.concept, w.styles[i % len(w.styles)], i, way)
        for way, times in zip(WAYS, (NAMED, OTHERWISE, OTHERWISE), strict=True)
        for i in range(times * each)
    ]


def questionnaire(
    requests: Sequence[WorldRequest], whole: Sequence[WorldRequest], w: Watched, each: int
) -> Questionnaire:
    """All questions of the first requests of a whole sequence."""
    targets = tuple(tuple(target_questions(r, w, each)) for r in whole)
    close = sorted(w.objects, key=lambda o: (o not in w.near, o not in w.held_out))[:8]
    columns = [group[0].caption for group in targets[:10]]
    columns += [about(o, w.styles[i % len(w.styles)], 0).caption for i, o in enumerate(close)]
    return Questionnaire(
        tuple(requests), w, tuple(preserved_questions(w, each)), targets[: len(requests)], tuple(columns)
    )


@torch.no_grad()
def look(host: HostModel, asked: Sequence[Question], seed: int, steps: int = STEPS) -> Observations:
    """Draw and read. Of two things both are read, left and right."""
    drawn = drawn_for(host, asked, seed, steps) * 2 - 1
    net = WorldClassifier.load()
    features = torch.cat([net.features(part) for part in drawn.split(64)])
    answers = net.recognise(drawn)
    two = [i for i, q in enumerate(asked) if AND in q.obj]
    if two:
        sides = [net.recognise(side) for side in halves(drawn[two])]
        for i, (left, style), (right, _) in zip(two, *sides, strict=True):
            answers[i] = (left + AND + right, style)
    return Observations(tuple(Answer(*a) for a in answers), features)


def drawn_for(host: HostModel, asked: Sequence[Question], seed: int, steps: int) -> Tensor:
    """One picture a question, `[n, 3, 64, 64]` in 0..1; a caption has one noise, so asked twice it is one picture."""
    sampler = Sampler(host, steps, guidance_of(host)).ready()
    numbers = [crc32(f"{SEED + seed} {q.caption}".encode()) for q in asked]
    start = torch.cat([noise((1, *host.latent_shape), number, host.device) for number in numbers])
    with host.session(Stack()):
        return host.decode(sampler.all_along(host.encode([q.caption for q in asked]), start, schedule(host, steps)))
