"""The rows of a run in `results.json`, and the reader for files of earlier versions."""

from __future__ import annotations

import json
from pathlib import Path

from unlearn_core.delta.atomic import write_json
from unlearn_core.errors import BadSetting

RENAMED = {
    "relapse": "resurgence",
    "relapse_worst": "resurgence_worst",
    "leak": "leakage",
    "leak_worst": "leakage_worst",
    "leak_base": "leakage_base",
    "kept_worst": "preserved_worst",
    "kept_worst_name": "preserved_worst_name",
    "kept_base": "preserved_base",
    "why": "reason",
}
"""Keys of earlier versions by their names of today."""


class Results:
    """The rows so far; another sequence or method may share the file, other picture counts not."""

    def __init__(self, folder: Path, pictures: int):
        self.folder, self.file, self.pictures = folder, folder / "results.json", pictures
        self.rows: dict[tuple, dict] = {}
        self.ended: list[dict] = []
        """Requests that could not be learned, each the end of its run: its key, `concept` and `reason`."""
        if self.file.is_file():
            self.rows, self.ended = read(self.file, pictures)

    def add(self, row: dict) -> None:
        """Take in a row and write the file."""
        self.rows[key_of(row)] = row
        self.ended = [e for e in self.ended if key_of(e) != key_of(row)]
        self.write()

    def end(self, row: dict) -> None:
        """Note a request that could not be learned."""
        self.ended = [*(e for e in self.ended if key_of(e) != key_of(row)), row]
        self.write()

    def write(self) -> None:
        """All of it, whole or not at all."""
        write_json(self.file, {"pictures": self.pictures, "rows": list(self.rows.values()), "ended": self.ended})


def key_of(row: dict) -> tuple:
    """What tells a row from all others."""
    return row["method"], row["sequence"], row["seed"], row["request"]


def read(file: Path, pictures: int | None = None) -> tuple[dict[tuple, dict], list[dict]]:
    """(rows by their keys, ended runs) of a `results.json`, with today's names. Raises `BadSetting`.

    pictures: what the file has to have been made with; None: any number.
    """
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        before = data["pictures"]
        rows, ended = ([today(row) for row in data.get(part, [])] for part in ("rows", "ended"))
        by_key = {key_of(row): row for row in rows}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise BadSetting(f"{file} is not a benchmark's result ({e}): choose another folder.") from None
    if pictures not in (None, before):
        raise BadSetting(f"{file} was made with --pictures {before}: use that or another folder.")
    return by_key, ended


def today(row: dict) -> dict:
    """A row of any version with today's keys."""
    return {RENAMED.get(key, key): value for key, value in row.items()}
