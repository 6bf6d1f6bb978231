"""All numbers of one row, from what the classifier saw of the base model and of the model after a request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from unlearn_core.demo.classifier import OTHER
from unlearn_core.demo.recognition import Question, share

from .questions import Answer, Observations, Questionnaire, shows
from .sequences import Request


def kernel_distance(one: Tensor, other: Tensor) -> float:
    """KID (Binkowski et al. 2018) of features `[n, d]`, row i of both from the same caption: MMD under (x.y / d + 1)^3.

    The U-statistic over pairs of different rows (Gretton et al. 2012, lemma 6): pictures of one caption are alike, so
    pairs i, i between the sets would count as nearness what no pair within a set can show. Its mean is 0 for one model.
    """
    x, y = one.double(), other.double()
    n, d = x.shape
    kxx, kyy, kxy = ((a @ b.T / d + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    terms = kxx + kyy - kxy - kxy.T
    return float((terms.sum() - terms.diagonal().sum()) / (n * (n - 1)))


@dataclass(frozen=True)
class Reference:
    """What the base model answers: to all questions, and to those about preserved concepts with other noise.

    The second is the floor of the distance between distributions.
    """

    same: Observations
    other_noise: Observations


@dataclass(frozen=True)
class Measurement:
    """One model after `done` requests.

    at_own: recognition of each earlier concept right after its own request. replayed: concepts that the method has
    trained on to preserve them.
    """

    questionnaire: Questionnaire
    done: int
    now: Observations
    base: Reference
    at_own: Sequence[float]
    replayed: frozenset[str]

    @property
    def ahead(self) -> tuple[Request, ...]:
        """The requests that were made."""
        return self.questionnaire.requests[: self.done]

    @property
    def groups(self) -> list[range]:
        """Rows of each request's own questions."""
        groups, at = [], len(self.questionnaire.preserved)
        for questions in self.questionnaire.targets[: self.done]:
            groups.append(range(at, at + len(questions)))
            at += len(questions)
        return groups

    def row(self) -> dict:
        """Shares 0..1 and distances, beside the base model's on the same captions."""
        return self.forgetting() | self.preservation() | self.distances()

    def forgetting(self) -> dict:
        """What is left of the targets, what came back, and what shows unasked."""
        left, known = (self.recognised(s) for s in (self.now, self.base.same))
        rises = [a - b for a, b in zip(left, self.at_own, strict=False)]
        leaks, base_leaks = (self.leakage(s) for s in (self.now, self.base.same))
        return {
            "ua_new": 1 - left[-1],
            "ua_all": 1 - sum(left) / self.done,
            "ua_worst": 1 - max(left),
            "base_recognised": sum(known) / self.done,
            "resurgence": sum(rises) / max(1, len(rises)),
            "resurgence_worst": max(rises, default=0.0),
            "leakage": leaks[0],
            "leakage_worst": leaks[1],
            "leakage_base": base_leaks[0],
            "recognised": {r.concept: v for r, v in zip(self.ahead, left, strict=True)},
        }

    def preservation(self) -> dict:
        """What is left of everything else."""
        watched, replayed = self.questionnaire.watched, self.replayed
        hits, base = (self.per_object(s) for s in (self.now, self.base.same))
        near = [o for o in hits if o in watched.near]
        return {
            "near_replayed": ratio(hits, base, [o for o in near if o in replayed]),
            "near_not_replayed": ratio(hits, base, [o for o in near if o not in replayed]),
            "near_listed": ratio(hits, base, [o for o in near if o not in watched.held_out]),
            "near_held_out": ratio(hits, base, [o for o in near if o in watched.held_out]),
            "far": ratio(hits, base, [o for o in hits if o not in near]),
            "preserved_worst": min(hits.values()),
            "preserved_worst_name": min(hits, key=lambda o: hits[o]),
            "preserved_base": sum(base.values()) / len(base),
            "styles": self.right_styles(self.now),
            "styles_base": self.right_styles(self.base.same),
            "broken": self.broken(self.now),
            "broken_base": self.broken(self.base.same),
            "objects": hits,
        }

    def distances(self) -> dict:
        """How far the pictures of preserved concepts are from the base model's."""
        kept = len(self.questionnaire.preserved)
        now, base, other = self.now.features[:kept], self.base.same.features[:kept], self.base.other_noise.features
        return {
            "kid": 1000 * kernel_distance(now, other),
            "kid_base": 1000 * kernel_distance(base, other),
            "moved": float((now - base).square().mean().sqrt()),
        }

    def recognised(self, seen: Observations) -> list[float]:
        """Of each request's own pictures the share that shows its concept."""
        pairs = zip(self.ahead, self.groups, self.questionnaire.targets, strict=False)
        return [self.left(r, asked, [seen.answers[i] for i in rows]) for r, rows, asked in pairs]

    @staticmethod
    def left(request: Request, asked: Sequence[Question], answers: Sequence[Answer]) -> float:
        """Share of a request's own pictures that show its concept; asked: their questions."""
        return share([shows(a, request) for a in answers])

    def per_object(self, seen: Observations) -> dict[str, float]:
        """Share of each watched object's pictures that show it."""
        pairs = list(zip(seen.answers, self.questionnaire.preserved, strict=False))
        return {o: share([a.obj == o for a, q in pairs if q.obj == o]) for o in self.questionnaire.watched.objects}

    def right_styles(self, seen: Observations) -> float:
        """Share of the preserved concepts' pictures in the style that was asked for."""
        return share([a.style == q.style for a, q in zip(seen.answers, self.questionnaire.preserved, strict=False)])

    def broken(self, seen: Observations) -> float:
        """Share of them that show nothing known."""
        return share([OTHER in (a.obj, a.style) for a in seen.answers[: len(self.questionnaire.preserved)]])

    def leakage(self, seen: Observations) -> tuple[float, float]:
        """Forgotten concepts under prompts that are not theirs: share of all such pictures, and of the worst request's.

        The second number finds a prompt of an earlier request that has learned to draw a later target.
        """

        def shown_unasked(questions: Sequence[Question], rows: range) -> list[bool]:
            return [
                any(shows(seen.answers[i], r) and not named(q, r) for r in self.ahead)
                for q, i in zip(questions, rows, strict=True)
            ]

        preserved, targets = self.questionnaire.preserved, self.questionnaire.targets
        whole = shown_unasked(preserved, range(len(preserved)))
        each = [shown_unasked(questions, rows) for questions, rows in zip(targets, self.groups, strict=False)]
        return share([*whole, *(hit for hits in each for hit in hits)]), max(map(share, each), default=0.0)


def ratio(now: dict[str, float], base: dict[str, float], objects: Sequence[str]) -> float | None:
    """Recognition relative to the base model's over some objects; None where there are none."""
    before = sum(base[o] for o in objects)
    return sum(now[o] for o in objects) / before if before else None


def named(question: Question, request: Request) -> bool:
    """Whether a caption asks for what the request has forgotten."""
    return bool({question.obj, question.style} & {request.concept, *request.classes})
