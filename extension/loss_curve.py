"""The loss curve as inline SVG, in the colours of whatever theme the page has.

Its words stand beside the SVG: inside they would shrink with it where the page is narrow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

MOST_DECADES = 4
"""The replay loss begins at almost nothing: all of that would press the rest flat."""
WIDTH, HEIGHT = 560, 140
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
        return (step - first) / (last - first) * WIDTH

    def y(value: float) -> float:
        part = (math.log10(max(value, 10.0**low)) - low) / (high - low)
        return (1 - part) * HEIGHT

    powers = range(high, low - 1, -1)
    lines = [f'<line class="grid" x1="0" x2="{WIDTH}" y1="{y(10.0**p):.1f}" y2="{y(10.0**p):.1f}"/>' for p in powers]
    for name, column in (("replay", 2), ("forget", 1)):
        path = " ".join(f"{x(p[0]):.1f},{y(p[column]):.1f}" for p in shown)
        lines.append(f'<polyline class="{name}" points="{path}"/>')
    scale = "".join(f"<span>{10.0**p:.{max(0, -p)}f}</span>" for p in powers)
    return (
        f'<figure class="unlearn-curve"><div class="scale">{scale}</div>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" aria-label="loss by step">'
        f'{"".join(lines)}</svg><div class="steps"><span>step {first}</span><span>step {last}</span></div>'
        f'<figcaption><span class="forget">forgetting {shown[-1][1]:.4f}</span>'
        f'<span class="replay">keeping the rest {shown[-1][2]:.4f}</span></figcaption></figure>'
    )


def thinned(points: list[tuple[int, float, float]]) -> list[tuple[int, float, float]]:
    """At most `MOST_POINTS` of them, each the mean of its neighbours, so that the noise does not hide the trend."""
    size = max(1, math.ceil(len(points) / MOST_POINTS))
    chunks = [points[i : i + size] for i in range(0, len(points), size)]
    return [(c[-1][0], sum(p[1] for p in c) / len(c), sum(p[2] for p in c) / len(c)) for c in chunks]
