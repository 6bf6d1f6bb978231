"""From runs on the world to committed results: means over targets or orders, and tables of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from unlearn_core.delta.atomic import write_json
from unlearn_core.errors import BadSetting

from ..doc_results import cell, number, table, with_sources
from ..record import Origin, mean_and_worst
from ..results import read

SHARES = (
    *("ua", "near_listed", "near_unlisted", "far_listed", "far_unlisted", "styles", "composition"),
    *("by_synonym", "by_description", "leakage", "resurgence", "resurgence_worst", "harmonic"),
)
MARKED = ("hundred", "together")
"""Kinds of sequences that have a row for each of several numbers of requests."""
LOW = {"by_synonym", "by_description", "leakage", "resurgence", "resurgence_worst", "seconds", "row_passes"}
COLUMNS = (
    ("UA", "ua"),
    ("near, listed", "near_listed"),
    ("near, unlisted", "near_unlisted"),
    ("far, listed", "far_listed"),
    ("far, unlisted", "far_unlisted"),
    ("styles", "styles"),
    ("two things", "composition"),
    ("forgotten and kept", "harmonic"),
    ("comes by synonym", "by_synonym"),
    ("by description", "by_description"),
    ("leakage", "leakage"),
    ("resurgence", "resurgence"),
    ("worst", "resurgence_worst"),
    ("s a request", "seconds"),
    ("row-passes", "row_passes"),
)
SHORT = (
    ("forgotten", "ua"),
    ("near things that no list names", "near_unlisted"),
    ("far things that no list names", "far_unlisted"),
    ("two things in one picture", "composition"),
    ("styles", "styles"),
    ("forgotten things that show up unasked", "leakage"),
)
PLAIN = {
    "ours": "this tool",
    "oce:keep_scale=10": "OCE",
    "cease:keep_scale=10": "CEASE",
    "uce:keep_scale=10+ridge=0.001": "UCE, set to forget all",
    "uce:keep_scale=100+ridge=0.001": "UCE, set to keep most",
}
"""What the front page calls the methods."""
ONE_NUMBER = ("by_synonym_base", "by_description_base", "leakage_base")


def record_world(folder: Path, kind: str, origin: Origin, results: Path) -> Path:
    """Put what a folder has of one kind of sequence into its file; rows of the same methods are replaced.

    Raises `BadSetting` where the folder has none.
    """
    rows = [r for r in read(folder / "results.json")[0].values() if r["sequence"].startswith(f"{kind}-")]
    whole = [complete(r) for r in rows if "objects" in r]
    if not whole:
        raise BadSetting(f"{folder} has no rows of {kind}-...: run `sequence {kind}-0 --model world` first.")
    file = origin.file(f"world_{kind}", results)
    data = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"sources": {}, "rows": []}
    made = [row | {"source": origin.commit} for row in summed(whole, rows, kind)]
    data["rows"] = with_older(made, data["rows"], kind in MARKED)
    used = {row["source"] for row in data["rows"]}
    data["sources"] = {name: s for name, s in data["sources"].items() if name in used} | origin.source(whole)
    furthest = max(r["request"] for r in whole)
    data["base"] = base_of([r for r in whole if r["request"] == furthest])
    write_json(file, data)
    return file


def with_older(made: Sequence[dict], older: Sequence[dict], marked: bool) -> list[dict]:
    """Rows of a run beside those of other methods, and where rows are `marked` by how far it had come, beside those of
    the same method that it has not reached."""

    def place(row: dict) -> tuple:
        return row["method"], row["requests"] if marked else 0

    again = set(map(place, made))
    rows = [*made, *(row for row in older if place(row) not in again)]
    methods = list(dict.fromkeys(row["method"] for row in rows))
    return sorted(rows, key=lambda row: (methods.index(row["method"]), row["requests"]))


def record_base(shares: Mapping[str, float], origin: Origin, results: Path) -> Path:
    """What the base model draws right, by the way it is asked."""
    rows = [{"asked": name, "right": share, "source": origin.commit} for name, share in shares.items()]
    file = origin.file("world_base", results)
    device = f"{torch.get_num_threads()} CPU threads"
    write_json(file, {"sources": origin.source([{"device": device}]), "rows": rows})
    return file


def base_table(data: Mapping) -> list[str]:
    """A row a way to ask."""
    return with_sources(["asked", "right"], data["rows"], lambda row: [row["asked"], cell(row, "right")], data)


def complete(row: dict) -> dict:
    """A row with the shares that are worked out from its others."""
    kept = sum(row["objects"].values()) / len(row["objects"]) / row["preserved_base"]
    found = row | {"ua": row["ua_all"], "kept": kept, "styles": row["styles"] / row["styles_base"]}
    return found | {"harmonic": 2 * row["ua_all"] * kept / max(1e-9, row["ua_all"] + kept)}


def summed(whole: Sequence[dict], rows: Sequence[dict], kind: str) -> list[dict]:
    """A row for each method and number of requests: means, and the worst of several orders."""
    found = []
    for method in dict.fromkeys(r["method"] for r in whole):
        mine = [r for r in whole if r["method"] == method]
        reached = sorted({r["request"] for r in mine})
        for number_of in reached if kind in MARKED else reached[-1:]:
            here = [r for r in mine if r["request"] == number_of]
            times = [r for r in rows if r["method"] == method and r["request"] <= number_of]
            found.append(one_row(here, times, kind) | {"requests": number_of})
    return found


def one_row(here: Sequence[dict], times: Sequence[dict], kind: str) -> dict:
    """Several runs that have come equally far; of single targets the mean alone."""
    row: dict = {"label": here[0]["label"], "method": here[0]["method"], "runs": len(here)}
    for key in SHARES:
        values = [r[key] for r in here if r.get(key) is not None]
        if values and not (kind == "one" and key.startswith("resurgence")):
            mean = sum(values) / len(values)
            row[key] = mean if kind == "one" else mean_and_worst(values, max if key in LOW else min)
    requests = here[0]["request"] if kind == "together" else 1
    for key in ("seconds", "row_passes"):
        row[key] = sum(r[key] for r in times) / len(times) / requests
    return row


def base_of(whole: Sequence[dict]) -> dict:
    """The base model's own rates, asked what was asked after the last requests."""
    row = {"label": "base model", **dict.fromkeys(SHARES[1:5], 1.0), "styles": 1.0, "composition": 1.0}
    row["ua"] = 1 - sum(r["base_recognised"] for r in whole) / len(whole)
    return row | {k.removesuffix("_base"): sum(r[k] for r in whole) / len(whole) for k in ONE_NUMBER}


def table_of(data: Mapping) -> list[str]:
    """A row a method and number of requests."""
    rows = data["rows"]
    columns = [(title, key) for title, key in COLUMNS if any(key in row for row in rows)]
    several = len({row["requests"] for row in rows}) > 1

    def cells(row: Mapping) -> list[str]:
        label = row["label"] if "method" not in row else f"{row['label']}, `{row['method']}`"
        counted = [number(row["requests"]) if "requests" in row else ""] if several else []
        runs = [str(row["runs"]) if "runs" in row else ""]
        return [label, *counted, *runs, *(cell(row, key) for _, key in columns)]

    head = ["", *(["requests"] if several else []), "runs", *(title for title, _ in columns)]
    return with_sources(head, [data["base"], *rows], cells, data)


def short_table(data: Mapping) -> list[str]:
    """The methods of `PLAIN` in whole numbers and without the base model, for a reader who wants the outcome only."""
    found = {row["method"]: row for row in data["rows"]}
    rows = [
        [name, *(cell(found[method], key, 0, brackets=False) for _, key in SHORT)]
        for method, name in PLAIN.items()
        if method in found
    ]
    return table(["", *(title for title, _ in SHORT)], rows)
