"""The loss curve as inline SVG, in the colours of whatever theme the page has."""

from __future__ import annotations

import math
from collections.abc import Sequence

MOST_DECADES = 4
"""The replay loss begins at almost nothing: all of that would press the rest flat."""
WIDTH, HEIGHT = 560, 170
LEFT, RIGHT, TOP, BOTTOM = 46, 8, 10, 22
MOST_POINTS = 280
"""More cannot be told apart in the picture."""


def curve(points: Sequence[tuple[int, float, float]]) -> str:
    """Forget and replay loss by step, both on one logarithmic axis. points: (step, forget, replay), ascending."""
    shown = thinned([p for p in points if all(map(math.isfinite, p))])
    if len(shown) < 2:
        return ""
    first, last = shown[0][0], shown[-1][0]
    values = [v for _, *losses in shown for v in losses if v > 0]
    if not values or last == first:
        return ""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)
    low = max(low, high - MOST_DECADES)

    def x(step: float) -> float:
        return LEFT + (step - first) / (last - first) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        part = (math.log10(max(value, 10.0**low)) - low) / (high - low)
        return TOP + (1 - part) * (HEIGHT - TOP - BOTTOM)

    lines = []
    for power in range(low, high + 1):
        at = y(10.0**power)
        lines.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        lines.append(f'<text x="{LEFT - 6}" y="{at + 3.5:.1f}" text-anchor="end">{10.0**power:g}</text>')
    for step, anchor in ((first, "start"), (last, "end")):
        lines.append(f'<text x="{x(step):.1f}" y="{HEIGHT - 6}" text-anchor="{anchor}">step {step}</text>')
    for name, column in (("replay", 2), ("forget", 1)):
        path = " ".join(f"{x(p[0]):.1f},{y(p[column]):.1f}" for p in shown)
        lines.append(f'<polyline class="{name}" points="{path}"/>')
    inside = "".join(lines)
    return (
        f'<figure class="unlearn-curve"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="loss by step">{inside}</svg><figcaption><span class="forget">forget {shown[-1][1]:.4f}</span>'
        f'<span class="replay">replay {shown[-1][2]:.4f}</span></figcaption></figure>'
    )


def thinned(points: list[tuple[int, float, float]]) -> list[tuple[int, float, float]]:
    """At most `MOST_POINTS` of them, each the mean of its neighbours, so that the noise does not hide the trend."""
    size = max(1, math.ceil(len(points) / MOST_POINTS))
    chunks = [points[i : i + size] for i in range(0, len(points), size)]
    return [(c[-1][0], sum(p[1] for p in c) / len(c), sum(p[2] for p in c) / len(c)) for c in chunks]
