"""From a finished run to a committed file of results, so that the documentation shows what was measured last."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from unlearn_core.delta.atomic import write_json
from unlearn_core.errors import BadSetting

from .doc_results import SEQUENCE
from .doc_tables import RESULTS
from .models import DEMO
from .result_table import LOW_IS_GOOD, last, runs
from .results import read


@dataclass(frozen=True)
class Origin:
    """Where rows come from: the command, the commit, the day (today by default), the table's group, and the model."""

    command: str
    commit: str
    group: str = "main"
    model: str = DEMO
    date: str = field(default_factory=lambda: time.strftime("%Y-%m-%d"))


def record_sequence(folder: Path, sequence: str, origin: Origin, results: Path = RESULTS) -> Path:
    """Put the last rows of all runs of a sequence into its file; rows of the same methods and group are replaced.

    Each model has a file of its own.
    """
    rows = [r for r in read(folder / "results.json")[0].values() if r["sequence"] == sequence]
    if not rows:
        raise BadSetting(f"{folder} has no rows of sequence {sequence}: run it with the same --out first.")
    file = results / f"sequence_{sequence}{'' if origin.model == DEMO else '_' + origin.model}.json"
    data = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"sources": {}, "rows": []}
    ends = [r for r in rows if r["request"] == last(rows, r["method"], r["seed"])]
    reached = {r["request"] for r in ends}
    if len(reached) > 1:
        raise BadSetting("Not all runs have reached the same request: finish them first.")
    facts = {"group": origin.group, "source": origin.commit}
    made = [summary(ends, method) | facts for method in dict.fromkeys(m for m, _ in runs(ends))]
    replaced = {(row["method"], row["group"]) for row in made}
    data["what"] = f"After request {reached.pop()} of sequence {sequence}"
    if origin.group == "main" or "base" not in data:
        data["base"] = base_of(ends)
    data["rows"] = made + [row for row in data["rows"] if (row["method"], row["group"]) not in replaced]
    used = {row["source"] for row in data["rows"]}
    data["sources"] = {name: source for name, source in data["sources"].items() if name in used}
    data["sources"][origin.commit] = {
        "commit": origin.commit,
        "date": origin.date,
        "command": origin.command,
        "device": ", ".join(dict.fromkeys(r["device"] for r in ends)),
    }
    write_json(file, data)
    return file


def summary(ends: Sequence[dict], method: str) -> dict:
    """One method's row: the mean over its seeds and, of several, the worst."""
    mine = [r for r in ends if r["method"] == method]
    row: dict = {"label": mine[0]["label"], "method": method, "seeds": len(mine)}
    for _, key in SEQUENCE:
        found = [r[key] for r in mine if r.get(key) is not None]
        if found:
            worst = max(found) if key in LOW_IS_GOOD else min(found)
            mean = sum(found) / len(found)
            row[key] = [mean, worst] if len(found) > 1 else mean
    if len(mine) == 1:
        row["preserved_worst_name"] = mine[0]["preserved_worst_name"]
    return row


def base_of(ends: Sequence[dict]) -> dict:
    """The base model's own rates on the same captions."""
    seeds = {r["seed"]: r for r in ends}.values()
    row = {"label": "base model", "seeds": len(seeds), "near_held_out": 1.0, "far": 1.0}
    for key, own in (("leakage", "leakage_base"), ("styles", "styles_base"), ("kid", "kid_base")):
        found = [r[own] for r in seeds]
        row[key] = (
            [sum(found) / len(found), max(found)] if len(found) > 1 and key == "leakage" else sum(found) / len(found)
        )
    return row
