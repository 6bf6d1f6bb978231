"""How the tests are divided between two processes: in groups that share what is slow to start, the longest first."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from tests.comfy.sources import SOURCES

TABLE = Path(__file__).with_name("durations.json")
"""Measured seconds of each group: {group: {"default": of what always runs, "full": of what only --all runs}}."""
UNMEASURED = {"default": 10, "full": 300}


def group_of(nodeid: str) -> str:
    """What is tested in one process: one ComfyUI version, or one file."""
    file, _, test = nodeid.partition("::")
    version = file.startswith("tests/comfy/") and next((v for v in SOURCES if v in test), None)
    return f"ComfyUI {version}" if version else file


def part_of(marks) -> str:
    """Which of the two runs a test belongs to, by its markers' names."""
    return "full" if "full" in marks else "default"


def longest_first(items: list) -> None:
    """Sort collected tests by the expected seconds of their groups."""
    measured = json.loads(TABLE.read_text("utf-8")) if TABLE.exists() else {}
    expected = Counter()
    for group, part in {(group_of(i.nodeid), part_of({m.name for m in i.iter_markers()})) for i in items}:
        expected[group] += measured.get(group, UNMEASURED).get(part, 0)
    items.sort(key=lambda i: -expected[group_of(i.nodeid)])


class Stopwatch:
    """A plugin of pytest's that adds up the seconds of each group and writes the table anew."""

    def __init__(self):
        self.seconds: dict[str, Counter] = {}

    def pytest_runtest_logreport(self, report):
        self.seconds.setdefault(group_of(report.nodeid), Counter())[part_of(report.keywords)] += report.duration

    def pytest_sessionfinish(self):
        longest = sorted(self.seconds.items(), key=lambda pair: -pair[1].total())
        table = {group: {part: round(s) for part, s in sorted(parts.items())} for group, parts in longest}
        lines = ",\n".join(f"  {json.dumps(group)}: {json.dumps(parts)}" for group, parts in table.items())
        TABLE.write_text(f"{{\n{lines}\n}}\n", "utf-8")
