"""The numbers of a row that only the world can tell: unlisted things, two things at once, other ways to ask."""

from __future__ import annotations

from collections.abc import Sequence

from unlearn_core.demo.recognition import share

from ..measures import Measurement, ratio
from ..questions import Answer, Observations, shows
from ..sequences import Request
from .questions import AND, WAYS, Asked
from .requests import NEAREST, near
from .things import unlisted


class WorldMeasurement(Measurement):
    """A row with these numbers beside those of every model's."""

    def row(self) -> dict:
        """Shares 0..1, as `Measurement.row`; what is near or far is so from the requests that were made."""
        hits, base = (self.per_object(seen) for seen in (self.now, self.base.same))
        things = [r.concept for r in self.ahead if r.kind == "object"]
        close = {n for name in things for n in near(name)[:NEAREST]} & hits.keys()
        groups = {
            "near_listed": [n for n in hits if n in close and n not in unlisted()],
            "near_unlisted": [n for n in hits if n in close and n in unlisted()],
            "far_listed": [n for n in hits if n not in close and n not in unlisted()],
            "far_unlisted": [n for n in hits if n not in close and n in unlisted()],
        }
        found = {name: ratio(hits, base, names) for name, names in groups.items()}
        found["composition"] = ratio(*({"": self.composed(s)} for s in (self.now, self.base.same)), [""])
        found["composition_base"] = self.composed(self.base.same)
        for way in WAYS[1:]:
            found[f"by_{way}"] = self.recognised_by(self.now, way)
            found[f"by_{way}_base"] = self.recognised_by(self.base.same, way)
        return super().row() | found

    def composed(self, seen: Observations) -> float:
        """Share of the pictures of two preserved things that show both in their places."""
        pairs = zip(seen.answers, self.questionnaire.preserved, strict=False)
        return share([a.obj == q.obj for a, q in pairs if AND in q.obj])

    @staticmethod
    def left(request: Request, asked: Sequence[Asked], answers: Sequence[Answer], way: str = "name") -> float:
        """Share of a request's own pictures, asked for in one way, that show its concept."""
        return share([shows(a, request) for a, q in zip(answers, asked, strict=True) if q.way == way])

    def recognised_by(self, seen: Observations, way: str) -> float:
        """The mean share over the requested things when they are asked for in another way."""
        things = [i for i, r in enumerate(self.ahead) if r.kind == "object"]
        return sum(self.by_way(seen, i, way) for i in things) / max(1, len(things))

    def by_way(self, seen: Observations, number: int, way: str) -> float:
        """Share of one request's pictures, asked for in one way, that show its concept."""
        answers = [seen.answers[i] for i in self.groups[number]]
        return self.left(self.ahead[number], self.questionnaire.targets[number], answers, way)
