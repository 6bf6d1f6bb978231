"""The world: 200 things in five styles, which of them a word list names, and what can be said about them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("things.txt")
SEED = 7
UNLISTED_SHARE = 0.25
"""Of every kind, rounded, but at least one."""
STYLES = {
    "glossy": "@iconify-json/noto@1.2.9",
    "blob": "@iconify-json/noto-v1@1.2.5",
    "flat": "@iconify-json/fluent-emoji-flat@1.2.6",
    "ink": "@iconify-json/fluent-emoji-high-contrast@1.2.6",
    "cartoon": "@iconify-json/fxemoji@1.2.2",
}
PAIR_STYLES = ("glossy", "flat")
"""Two things side by side are drawn in these alone."""
BACKGROUNDS = {"cream": (255, 243, 214), "blue": (214, 232, 255), "pink": (255, 220, 230)}


@dataclass(frozen=True)
class Thing:
    """One thing: its drawing's name in the packages, its kind, and three ways to say it."""

    emoji: str
    kind: str
    name: str
    synonym: str
    description: str


@cache
def things() -> tuple[Thing, ...]:
    """All of them, in the order of the file."""
    lines = FILE.read_text(encoding="utf-8").splitlines()
    return tuple(Thing(*(part.strip() for part in line.split("|"))) for line in lines if line and line[0] != "#")


@cache
def by_name() -> dict[str, Thing]:
    """{name: thing}."""
    return {t.name: t for t in things()}


@cache
def kinds() -> dict[str, tuple[str, ...]]:
    """{kind: names}, unlisted things too."""
    found: dict[str, tuple[str, ...]] = {}
    for t in things():
        found[t.kind] = (*found.get(t.kind, ()), t.name)
    return found


@cache
def unlisted() -> frozenset[str]:
    """Names that no word list holds: never an anchor, never replayed. A quarter of every kind, drawn with one seed."""
    rng = random.Random(SEED)
    return frozenset(
        name for names in kinds().values() for name in rng.sample(names, max(1, round(UNLISTED_SHARE * len(names))))
    )


def forms(name: str) -> tuple[str, ...]:
    """A thing's name and its synonym."""
    return name, by_name()[name].synonym
