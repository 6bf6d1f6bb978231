"""What the trials of a race over several concepts say together: who is at the mark how often, and after which time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Row = Mapping
"""A trial as it is kept: concept, name, method, steps, seconds, at_mark (see `against.Trial`)."""


@dataclass(frozen=True)
class Standing:
    """A method's line. steps: None where each concept has its own. seconds: mean a concept. reached: at the mark."""

    name: str
    method: str
    steps: int | None
    seconds: float
    reached: int


def standings(rows: Sequence[Row]) -> list[Standing]:
    """The product's lines; then each rival with the steps chosen beforehand, and stopped by somebody who sees."""
    lines: list[Standing] = []
    for name in dict.fromkeys(row["name"] for row in rows):
        own = by(rows, "name", name)
        line = ended_by_itself if name == "ours" else chosen_beforehand
        lines += [line(name, by(own, "method", method)) for method in dict.fromkeys(row["method"] for row in own)]
        if name != "ours":
            lines.append(stopped(name, own))
    return lines


def ended_by_itself(name: str, rows: Sequence[Row]) -> Standing:
    """The product, which knows when it is done."""
    mean = sum(row["seconds"] for row in rows) / len(rows)
    return Standing(name, rows[0]["method"], 0, mean, sum(bool(row["at_mark"]) for row in rows))


def chosen_beforehand(name: str, rows: Sequence[Row]) -> Standing:
    """One method at the number of steps, the same for all concepts, that brings most of them to the mark.

    Of several such numbers the smallest; 0 where none brings any.
    """
    counts = {k: sum(k in row["at_mark"] for row in rows) for row in rows for k in row["at_mark"]}
    steps = min(counts, key=lambda k: (-counts[k], k)) if counts else 0
    return Standing(name, rows[0]["method"], steps, steps * a_step(rows), counts.get(steps, 0))


def stopped(name: str, rows: Sequence[Row]) -> Standing:
    """A tool that somebody stops at the mark, each concept at the learning rate that is there first.

    seconds: mean of the concepts that come there.
    """
    first = []
    for concept in dict.fromkeys(row["concept"] for row in rows):
        own = by(rows, "concept", concept)
        times = [row["at_mark"][0] * a_step([row]) for row in own if row["at_mark"]]
        first += [min(times)] if times else []
    return Standing(name, "", None, sum(first) / len(first) if first else 0.0, len(first))


def a_step(rows: Sequence[Row]) -> float:
    """Mean seconds of a step."""
    return sum(row["seconds"] for row in rows) / sum(row["steps"] for row in rows)


def by(rows: Sequence[Row], key: str, value: str) -> list[Row]:
    """Those with this value."""
    return [row for row in rows if row[key] == value]
