"""The captions that are counted, the same for every method, and what the classifier makes of their pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unlearn_core.demo.classifier import DemoClassifier
from unlearn_core.demo.recognition import FOLDER, STEPS, Question, world
from unlearn_core.preview import drawn as drawn_now
from unlearn_core.sampling import Sampler
from unlearn_core.words.prompts import fill

from .models import OpenModel, guidance_of
from .sequences import Request, Watched

SEED = 1000
"""Noise of counted pictures: seed n of the benchmark counts with SEED + n."""
READ_AT_ONCE = 32
"""Pictures that the classifier reads at once, so that a longer list takes no more memory."""


@dataclass(frozen=True)
class Answer:
    """What the classifier sees in one picture."""

    obj: str
    style: str


@dataclass(frozen=True)
class Observations:
    """One model's pictures of a list of questions, read: answers, and features `[pictures, 128]`."""

    answers: tuple[Answer, ...]
    features: Tensor


@dataclass(frozen=True)
class Questionnaire:
    """All questions of one sequence: those about preserved concepts, then each request's own, in order.

    columns: captions of the picture grid, those of requests that are left out too.
    """

    requests: tuple[Request, ...]
    watched: Watched
    preserved: tuple[Question, ...]
    targets: tuple[tuple[Question, ...], ...]
    columns: tuple[str, ...]

    def asked(self, requests: int) -> list[Question]:
        """All questions after so many requests; a longer list begins with the shorter one."""
        return [*self.preserved, *(q for group in self.targets[:requests] for q in group)]

    def own(self, request: int) -> list[Question]:
        """The questions of one request, counted from 1."""
        return list(self.targets[request - 1])


def preserved_questions(w: Watched, pictures_each: int) -> list[Question]:
    """Every watched object `pictures_each` times, in the watched styles and in all templates, held-out ones too."""
    templates = [*world()["templates"], *world()["held_out_templates"]]
    return [
        Question(fill(templates[(5 * i + 7 * k) % len(templates)], o, s), o, s)
        for k, o in enumerate(w.objects)
        for i, s in ((i, w.styles[(i + k) % len(w.styles)]) for i in range(pictures_each))
    ]


def target_questions(request: Request, w: Watched, count: int) -> list[Question]:
    """A request's concept `count` times, a quarter of it in held-out templates, beside what has to survive.

    The concept's own word stands in the caption; for a superclass `obj` is that word.
    """
    templates = [*world()["templates"], *world()["held_out_templates"]]
    asked = []
    for i in range(count):
        template = templates[-1 - i // 4 % 4] if i % 4 == 3 else templates[(5 * i + len(request.concept)) % 12]
        pair = (
            (w.objects[(3 * i) % len(w.objects)], request.concept)
            if request.kind == "style"
            else (request.concept, w.styles[i % len(w.styles)])
        )
        asked.append(Question(fill(template, *pair), *pair))
    return asked


def look(host: OpenModel, asked: Sequence[Question], seed: int, steps: int = STEPS) -> Observations:
    """Draw and read, with the host as it is now; picture i has noise i of the seed. steps: Euler steps of a picture."""
    drawn = drawn_now(Sampler(host, steps, guidance_of(host)), [q.caption for q in asked], SEED + seed)
    return read(drawn)


@torch.no_grad()
def read(drawn: Tensor) -> Observations:
    """The classifier's answers and features for pictures `[n, 3, H, W]` in 0..1."""
    net = DemoClassifier.load(FOLDER / "classifier.safetensors")
    features = torch.cat([net.features(part * 2 - 1) for part in drawn.split(READ_AT_ONCE)])
    objects, styles = net.object_head(features).argmax(1).tolist(), net.style_head(features).argmax(1).tolist()
    found = tuple(Answer(net.objects[o], net.styles[s]) for o, s in zip(objects, styles, strict=True))
    return Observations(found, features)


def shows(answer: Answer, request: Request) -> bool:
    """Whether a picture is recognised as what a request has asked to forget."""
    return (answer.style if request.kind == "style" else answer.obj) in request.classes
