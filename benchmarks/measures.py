"""All numbers of one row, from what the classifier saw of the base model and of the model after a request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from unlearn_core.demo.classifier import OTHER
from unlearn_core.demo.recognition import Question, share

from .questions import Seen, shows
from .sequences import Request, Watched


@dataclass(frozen=True)
class Sheet:
    """The questions of one sequence: kept ones first, then each request's own, in order.

    columns: captions of the picture grid, those of requests that are left out too.
    """

    requests: tuple[Request, ...]
    watched: Watched
    kept: tuple[Question, ...]
    own: tuple[tuple[Question, ...], ...]
    columns: tuple[str, ...]

    def asked(self, requests: int) -> list[Question]:
        """All questions after so many requests; a longer list begins with the shorter one."""
        return [*self.kept, *(q for group in self.own[:requests] for q in group)]


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


def measure(
    sheet: Sheet,
    done: int,
    now: Seen,
    base: Seen,
    other_noise: Seen,
    at_own: Sequence[float],
    replayed: frozenset[str],
) -> dict:
    """The row's shares 0..1 and distances after `done` requests, beside the base model's on the same captions.

    other_noise: the base model's kept captions with other noise, as the floor of the distribution distance.
    at_own: recognition of each earlier concept right after its own request. replayed: concepts trained on to be kept.
    """
    kept = len(sheet.kept)
    ahead = sheet.requests[:done]
    groups, at = [], kept
    for questions in sheet.own[:done]:
        groups.append(range(at, at + len(questions)))
        at += len(questions)
    left = [share([shows(now.answers[i], r) for i in g]) for r, g in zip(ahead, groups, strict=True)]
    known = [share([shows(base.answers[i], r) for i in g]) for r, g in zip(ahead, groups, strict=True)]
    rises = [a - b for a, b in zip(left, at_own, strict=False)]
    near, held, played = sheet.watched.near, sheet.watched.held_out, replayed
    leaks = [leak(sheet, ahead, groups, s) for s in (now, base)]
    hits, base_hits = (per_object(sheet, s) for s in (now, base))
    return {
        "ua_new": 1 - left[-1],
        "ua_all": 1 - sum(left) / done,
        "ua_worst": 1 - max(left),
        "base_recognised": sum(known) / done,
        "relapse": sum(rises) / max(1, len(rises)),
        "relapse_worst": max(rises, default=0.0),
        "leak": leaks[0][0],
        "leak_worst": leaks[0][1],
        "leak_base": leaks[1][0],
        "near_replayed": ratio(hits, base_hits, [o for o in hits if o in near and o in played]),
        "near_not_replayed": ratio(hits, base_hits, [o for o in hits if o in near and o not in played]),
        "near_held_out": ratio(hits, base_hits, [o for o in hits if o in near and o in held]),
        "far": ratio(hits, base_hits, [o for o in hits if o not in near]),
        "kept_worst": min(hits.values()),
        "kept_worst_name": min(hits, key=lambda o: hits[o]),
        "kept_base": sum(base_hits.values()) / len(base_hits),
        "styles": share([a.style == q.style for a, q in zip(now.answers[:kept], sheet.kept, strict=True)]),
        "styles_base": share([a.style == q.style for a, q in zip(base.answers[:kept], sheet.kept, strict=True)]),
        "broken": share([OTHER in (a.obj, a.style) for a in now.answers[:kept]]),
        "broken_base": share([OTHER in (a.obj, a.style) for a in base.answers[:kept]]),
        "kid": 1000 * kernel_distance(now.features[:kept], other_noise.features),
        "kid_base": 1000 * kernel_distance(base.features[:kept], other_noise.features),
        "moved": float((now.features[:kept] - base.features[:kept]).square().mean().sqrt()),
        "recognised": {r.concept: v for r, v in zip(ahead, left, strict=True)},
        "objects": hits,
    }


def per_object(sheet: Sheet, seen: Seen) -> dict[str, float]:
    """Share of each watched object's pictures that show it."""
    pairs = list(zip(seen.answers, sheet.kept, strict=False))
    return {o: share([a.obj == o for a, q in pairs if q.obj == o]) for o in sheet.watched.objects}


def ratio(now: dict[str, float], base: dict[str, float], objects: Sequence[str]) -> float | None:
    """Recognition relative to the base model's over some objects; None where there are none."""
    before = sum(base[o] for o in objects)
    return sum(now[o] for o in objects) / before if before else None


def leak(sheet: Sheet, ahead: Sequence[Request], groups: Sequence[range], seen: Seen) -> tuple[float, float]:
    """Forgotten concepts under prompts that are not theirs: share of all such pictures, and of the worst request's own.

    The second number finds a prompt of an earlier request that has learned to draw a later target.
    """

    def shown_unasked(questions: Sequence[Question], rows: range) -> list[bool]:
        return [
            any(shows(seen.answers[i], r) and not named(q, r) for r in ahead)
            for q, i in zip(questions, rows, strict=True)
        ]

    whole = shown_unasked(sheet.kept, range(len(sheet.kept)))
    each = [shown_unasked(questions, rows) for questions, rows in zip(sheet.own, groups, strict=False)]
    return share([*whole, *(hit for hits in each for hit in hits)]), max(map(share, each), default=0.0)


def named(question: Question, request: Request) -> bool:
    """Whether a caption asks for what the request has forgotten."""
    return bool({question.obj, question.style} & {request.concept, *request.classes})
