"""Which concepts of the world are asked for, one alone, ten and a hundred in a row, and what is watched meanwhile."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from unlearn_core.errors import BadSetting

from ..sequences import Request, Watched
from .things import SEED, STYLES, kinds, things, unlisted
from .words import listed

NEAR_FILE = Path(__file__).with_name("near.json")
NEAREST, ALONE, ORDERS, HUNDRED = 5, 30, 5, 100
FAR = 60
"""Far things that are watched, out of all over the world."""
TEN_THINGS, TEN_STYLES = 9, ("blob",)
TOGETHER = 10, 50, 100
"""How many go at once."""
MARKS = frozenset({1, 10, 25, 50, 75, 100})
"""Requests after which all pictures are counted."""


@dataclass(frozen=True)
class WorldRequest(Request):
    """A thing or a style of the world."""

    @property
    def kind(self) -> str:
        """ "object" or "style"."""
        return "style" if self.concept in STYLES else "object"

    @property
    def classes(self) -> tuple[str, ...]:
        """What the classifier calls it."""
        return (self.concept,)


@cache
def near(name: str) -> tuple[str, ...]:
    """The 20 other things of the most similar pictures, by the classifier's features of the drawings."""
    return tuple(json.loads(NEAR_FILE.read_text(encoding="utf-8"))[name])


@cache
def targets(split: str) -> tuple[str, ...]:
    """30 listed things of "development" or of "test", spread over the kinds, each near to something unlisted."""
    rng, groups = random.Random(SEED), [list(names) for names in listed().values()]
    for names in groups:
        rng.shuffle(names)
    dealt = [names[i] for i in range(max(map(len, groups))) for names in groups if i < len(names)]
    fit = [n for n in dealt if unlisted() & {*near(n)[:NEAREST]}]
    return tuple(fit[:ALONE] if split == "test" else fit[ALONE : 2 * ALONE])


@cache
def sequences() -> dict[str, tuple[WorldRequest, ...]]:
    """one-0 to one-29 (test) and try-0 to try-29 (development); ten-0 to ten-4, hundred-0 to hundred-4 (orders).

    try-ten: ten of the development split. together-10, together-50, together-100: these at once.
    """
    found = {f"one-{i}": (WorldRequest(name),) for i, name in enumerate(targets("test"))}
    found |= {f"try-{i}": (WorldRequest(name),) for i, name in enumerate(targets("development"))}
    found["try-ten"] = tuple(map(WorldRequest, targets("development")[:10]))
    rest = [n for names in listed().values() for n in names if n not in targets("test")]
    many = [*targets("test"), *random.Random(SEED).sample(rest, HUNDRED - ALONE)]
    for i in range(ORDERS):
        for name, concepts in (("ten", [*targets("test")[:TEN_THINGS], *TEN_STYLES]), ("hundred", many)):
            order = random.Random(SEED + i).sample(concepts, len(concepts))
            found[f"{name}-{i}"] = tuple(map(WorldRequest, order))
    return found | {f"together-{n}": tuple(map(WorldRequest, many[:n])) for n in TOGETHER}


def at_once(name: str) -> bool:
    """Whether all requests of a sequence are one."""
    return name.startswith("together-")


def sequence(name: str, count: int | None = None) -> tuple[WorldRequest, ...]:
    """The first `count` requests of a sequence; `BadSetting` for a name or number that there is not."""
    if name not in sequences():
        raise BadSetting(
            f"The world has no sequence '{name}'; it has one-0 to one-29, ten-0 to ten-4, hundred-0 to -4, "
            "together-10, together-50 and together-100."
        )
    requests = sequences()[name]
    if count is not None and not 1 <= count <= len(requests):
        raise BadSetting(f"Sequence {name} has {len(requests)} requests: ask for 1 to {len(requests)}, not {count}.")
    return requests[:count]


def watched(requests: tuple[WorldRequest, ...]) -> Watched:
    """What has to survive: near and far things, and all other styles.

    Near are the five most similar to anything that goes.
    """
    gone = {r.concept for r in requests}
    close = frozenset(n for r in requests if r.kind == "object" for n in near(r.concept)[:NEAREST]) - gone
    far = [t.name for t in things() if t.name not in gone | close]
    asked = close | {*random.Random(SEED).sample(far, min(FAR, len(far)))}
    objects = tuple(t.name for t in things() if t.name in asked)
    return Watched(objects, tuple(s for s in STYLES if s not in gone), close, unlisted())


def same_kind(name: str) -> tuple[str, ...]:
    """Other things of a thing's kind."""
    return tuple(n for names in kinds().values() if name in names for n in names if n != name)
