"""A small search over a baseline's own settings, so that it is compared at its best and not at a guess."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from unlearn_core.delta.atomic import write_json
from unlearn_core.errors import TrainingFailed

from .methods import method, with_settings
from .models import DEMO, OPEN, WORLD
from .result_table import FORGOTTEN
from .run import Plan, run

REQUESTS = 3
"""Of a sequence, where nothing else is said."""
TRIED: dict[str, str] = {WORLD: "try-ten", OPEN: "try-ten"}
"""{model: the sequence on which settings are chosen}; sequence A where there is none."""


def search(
    name: str, folder: Path, device: str, pictures: int = 8, requests: int = REQUESTS, model: str = DEMO
) -> dict:
    """All settings of the method's `GRID` over the first requests of a sequence, seed 0; the best one on top.

    Best: of those that forget (UA over all >= 95 %) the one that preserves most of near and far objects; where none
    forgets, the one that forgets most. Writes `search-NAME.json` and returns it.
    """
    grid, sequence = method(name).GRID, TRIED.get(model, "A")
    specs = [with_settings(name, dict(zip(grid, values, strict=True))) for values in product(*grid.values())]
    results = run(Plan(sequence, tuple(specs), 1, requests, pictures, model=model), folder, device)
    tried = []
    for spec in specs:
        row = results.rows.get((spec, sequence, 0, requests))
        if row is None:  # could not be learned with these settings
            continue
        preserved = sum(row["objects"].values()) / len(row["objects"])
        tried.append({"method": spec, "ua": row["ua_all"], "preserved": preserved, "seconds": row["seconds"]})
    if not tried:
        raise TrainingFailed(f"No setting of {name} got through the {requests} requests: {results.ended[0]['reason']}")
    tried.sort(key=lambda t: (t["ua"] < FORGOTTEN, -t["preserved"] if t["ua"] >= FORGOTTEN else -t["ua"]))
    found = {"searched": {k: list(v) for k, v in grid.items()}, "requests": requests, "best": tried[0], "tried": tried}
    write_json(folder / f"search-{name.partition(':')[0]}.json", found)
    return found
