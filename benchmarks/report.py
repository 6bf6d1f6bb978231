"""What a run is written up as: a table, a plot a sequence, and picture grids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from unlearn_core.delta.atomic import write_whole
from unlearn_core.delta.paths import safe_file_name

from .grids import assemble
from .models import DEMO
from .plots import draw
from .result_table import table
from .run import Plan


def write_up(rows: list[dict], folder: Path, ended: Sequence[dict] = (), model: str = DEMO) -> list[Path]:
    """`table.md`, a plot a sequence, a grid a run, a grid of all methods' last rows. Returns what was written.

    ended: requests that could not be learned.
    """
    written = [folder / "table.md"]
    write_whole(written[0], table(rows, ended).encode())
    for sequence in dict.fromkeys(r["sequence"] for r in rows):
        here = [r for r in rows if r["sequence"] == sequence]
        written.append(folder / f"plot-{sequence}.png")
        draw(here, written[-1])
        written += grids(here, folder, Plan(sequence, (), 1, model=model))
    return written


def grids(rows: Sequence[dict], folder: Path, plan: Plan) -> list[Path]:
    """A grid a run, and one of all methods' last rows; what was written."""
    columns, base = plan.questionnaire.columns, folder / "base" / f"{plan.sequence}.png"
    written, ends = [], []
    for method, seed in dict.fromkeys((r["method"], r["seed"]) for r in rows):
        strips = [(f.stem, f) for f in sorted(plan.folder(folder, method, seed).glob("*.png"))]
        written.append(folder / f"grid-{plan.sequence}-{safe_file_name(method)}-{seed}.png")
        assemble(columns, base, strips, written[-1])
        ends += [(method, f) for _, f in strips[-1:] if seed == 0]
    written.append(folder / f"methods-{plan.sequence}.png")
    assemble(columns, base, ends, written[-1])
    return written
