"""How the measures move over the requests, one line a method, as one PNG a sequence."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from unlearn_core.delta.atomic import write_whole

PANELS = (
    ("ua_all", "forgotten (UA over all so far)"),
    ("resurgence", "resurgence"),
    ("leakage", "leakage"),
    ("near_replayed", "near, replayed"),
    ("near_held_out", "near, held out from all replay"),
    ("far", "far"),
    ("kid", "KID x 1000"),
    ("norm", "norm of all changes"),
)


def draw(rows: Sequence[dict], file: Path) -> None:
    """Eight panels over the number of requests; the mean of the seeds, and a band from the lowest to the highest."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 7.2), dpi=100, layout="constrained")
    axes = figure.subplots(2, 4).ravel()
    methods = list(dict.fromkeys(r["method"] for r in rows))
    colors = colormaps["tab10" if len(methods) <= 10 else "tab20"].colors
    for axis, (key, title) in zip(axes, PANELS, strict=True):
        for i, method in enumerate(methods):
            mine = [r for r in rows if r["method"] == method and r.get(key) is not None]
            at = sorted({r["request"] for r in mine})
            values = [[r[key] for r in mine if r["request"] == n] for n in at]
            means = [sum(v) / len(v) for v in values]
            color = colors[i % len(colors)]
            axis.plot(at, means, color=color, marker="o", ms=3, lw=1.5, label=method)
            axis.fill_between(at, [min(v) for v in values], [max(v) for v in values], color=color, alpha=0.15, lw=0)
        axis.set_title(title, fontsize=10)
        axis.grid(alpha=0.3)
        if key not in ("kid", "norm"):
            axis.yaxis.set_major_formatter(lambda v, _: f"{100 * v:.0f} %")
        if key == "kid":
            axis.set_yscale("symlog", linthresh=10)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    data = io.BytesIO()
    figure.savefig(data, format="png", metadata={"Software": None})
    write_whole(file, data.getvalue())
