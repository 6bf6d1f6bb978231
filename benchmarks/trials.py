"""Single requests with a setting of theirs, measured one after the other and kept: `depth` and `everywhere`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import torch

from unlearn_core import ForgetConfig, forget
from unlearn_core.delta.atomic import write_json
from unlearn_core.standalone.model import StandaloneModel

from .learned import Learned


class Trial(Protocol):
    """One model that is asked."""

    @property
    def name(self) -> str:
        """Of its files."""
        ...

    def measured(self, host: StandaloneModel, folder: Path) -> dict:
        """Its row."""
        ...


T = TypeVar("T", bound=Trial)


def requested(host: StandaloneModel, file: Path, asked: Mapping, key: str) -> tuple[list[Learned], dict]:
    """What a request leaves behind, kept in a file, and what its run says. key: of the setting's part of the report."""
    begun = time.process_time()
    made = forget(host, ForgetConfig.from_flat({"force": True, **asked}))
    facts = {"anchor": made.report["anchor"], "verdict": made.report["check"]["verdict"]}
    learned = Learned(asked["concept"], delta=made.delta, anchor=made.report["anchor"])
    learned.save(file)
    return [learned], {**made.report.get(key, {}), **facts, "seconds": time.process_time() - begun}


def measured(host: StandaloneModel, file: Path, trials: Sequence[T], tell: Callable[[dict], None]) -> list[dict]:
    """A row a trial, as they lie in the file; those that are there already are not made again. tell: hears each row."""
    found = {row["name"]: row for row in json.loads(file.read_text(encoding="utf-8"))} if file.is_file() else {}
    for trial in trials:
        if trial.name not in found:
            found[trial.name] = {"name": trial.name, **trial.measured(host, file.parent)}
            write_json(file, list(found.values()))
        tell(found[trial.name])
    return [found[t.name] for t in trials]


def recorded(rows: Sequence[dict], model: str, origin: tuple[str, str, str], file: Path) -> None:
    """Write rows as a committed file of results. origin: commit, command, and a note on how it was measured."""
    commit, command, note = origin
    device = f"{torch.get_num_threads()} CPU threads"
    source = {"commit": commit, "date": time.strftime("%Y-%m-%d"), "command": command, "device": device, "note": note}
    write_json(file, {"model": model, "sources": {commit: source}, "rows": [row | {"source": commit} for row in rows]})
