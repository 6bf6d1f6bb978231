"""From a finished run to a committed file of results, so that the documentation shows what was measured last."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

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

    def file(self, name: str, results: Path) -> Path:
        """Each model has files of its own."""
        return results / f"{name}{'' if self.model == DEMO else '_' + self.model}.json"

    def source(self, rows: Sequence[dict]) -> dict[str, dict]:
        """What a file of results says about where these rows come from."""
        device = ", ".join(dict.fromkeys(r["device"] for r in rows))
        return {self.commit: {"commit": self.commit, "date": self.date, "command": self.command, "device": device}}


def rows_of(folder: Path, sequence: str) -> list[dict]:
    """All rows of a sequence in a folder of results. Raises `BadSetting` where there are none."""
    rows = [r for r in read(folder / "results.json")[0].values() if r["sequence"] == sequence]
    if not rows:
        raise BadSetting(f"{folder} has no rows of sequence {sequence}: run it with the same --out first.")
    return rows


def record_alone(folder: Path, concepts: str, origin: Origin, results: Path = RESULTS) -> Path:
    """Put the rows of single requests, divided by commas, into the file of their model."""
    found = {concept: rows_of(folder, concept) for concept in concepts.split(",")}
    made = [
        alone(rows, concept, method) | {"source": origin.commit}
        for concept, rows in found.items()
        for method in dict.fromkeys(r["method"] for r in rows)
    ]
    file = origin.file("alone", results)
    write_json(file, {"sources": origin.source([r for rows in found.values() for r in rows]), "rows": made})
    return file


def alone(rows: Sequence[dict], concept: str, method: str) -> dict:
    """One concept's row: the mean over the seeds and, of several, the worst; shares are of the base model's own."""
    mine = [r for r in rows if r["method"] == method]
    kept = [sum(r["objects"].values()) / len(r["objects"]) / r["preserved_base"] for r in mine]
    styles = [r["styles"] / r["styles_base"] for r in mine]
    row = {"concept": concept, "label": mine[0]["label"], "method": method, "seeds": len(mine)}
    row["left"] = mean_and_worst([1 - r["ua_new"] for r in mine], max)
    row |= {"others": mean_and_worst(kept, min), "styles": mean_and_worst(styles, min)}
    row["preserved_worst"] = mean_and_worst([r["preserved_worst"] for r in mine], min)
    return row | {k: mean_and_worst([r[k] for r in mine], max) for k in ("broken", "row_passes", "seconds")}


def record_search(folder: Path, origin: Origin, results: Path = RESULTS) -> Path:
    """Put what searches in a folder have tried into the file of their model, each method's best setting first."""
    found = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("search-*.json"))]
    if not found:
        raise BadSetting(f"{folder} has no search: run `python -m benchmarks search METHOD` with the same --out first.")
    rows = [{"requests": f["requests"], "source": origin.commit} | tried for f in found for tried in f["tried"]]
    file = origin.file("search", results)
    old = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.is_file() else []
    methods = {name_of(row) for row in rows}
    device = {"device": f"{torch.get_num_threads()} CPU threads"}
    kept = [row | {"source": origin.commit} for row in old if name_of(row) not in methods]
    write_json(file, {"sources": origin.source([device]), "rows": kept + rows})
    return file


def name_of(row: Mapping) -> str:
    """A method without its settings."""
    return row["method"].partition(":")[0]


def record_widths(rows: Sequence[dict], origin: Origin, keep: bool, results: Path = RESULTS) -> dict:
    """The rows with where they come from; written down where they are to be kept, beside those of other devices."""
    device = {row["device"] for row in rows}
    named, sources = [row | {"source": origin.commit} for row in rows], origin.source(rows)
    file = origin.file("widths", results)
    if keep and file.is_file():
        old = json.loads(file.read_text(encoding="utf-8"))
        named = [row for row in old["rows"] if row["device"] not in device] + named
        sources |= {row["source"]: old["sources"][row["source"]] for row in named if row["source"] in old["sources"]}
    data = {"sources": sources, "rows": named}
    if keep:
        write_json(file, data)
    return data


def mean_and_worst(found: Sequence[float], worst: Callable[[Sequence[float]], float]) -> float | list[float]:
    """Of several seeds both, of one its value."""
    mean = sum(found) / len(found)
    return [mean, worst(found)] if len(found) > 1 else mean


def record_sequence(folder: Path, sequence: str, origin: Origin, results: Path = RESULTS) -> Path:
    """Put the last rows of all runs of a sequence into its file; rows of the same methods and group are replaced."""
    rows, file = rows_of(folder, sequence), origin.file(f"sequence_{sequence}", results)
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
    data["sources"] |= origin.source(ends)
    write_json(file, data)
    return file


def summary(ends: Sequence[dict], method: str) -> dict:
    """One method's row: the mean over its seeds and, of several, the worst."""
    mine = [r for r in ends if r["method"] == method]
    row: dict = {"label": mine[0]["label"], "method": method, "seeds": len(mine)}
    for _, key in SEQUENCE:
        found = [r[key] for r in mine if r.get(key) is not None]
        if found:
            row[key] = mean_and_worst(found, max if key in LOW_IS_GOOD else min)
    if len(mine) == 1:
        row["preserved_worst_name"] = mine[0]["preserved_worst_name"]
    return row


def base_of(ends: Sequence[dict]) -> dict:
    """The base model's own rates on the same captions."""
    seeds = {r["seed"]: r for r in ends}.values()
    row = {"label": "base model", "seeds": len(seeds), "near_held_out": 1.0, "far": 1.0}
    for key, own in (("leakage", "leakage_base"), ("styles", "styles_base"), ("kid", "kid_base")):
        found = [r[own] for r in seeds]
        row[key] = mean_and_worst(found, max) if key == "leakage" else sum(found) / len(found)
    return row
