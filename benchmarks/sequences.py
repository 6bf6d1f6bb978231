"""Which concepts are asked for in which order, and what is watched while they go.

Every sequence leaves alone the objects that no word list of the demo model names (`held_out`): no request of any method
can replay them, so they tell what happens to the part of a model that nobody thought of.
"""

from __future__ import annotations

from dataclasses import dataclass

from unlearn_core.demo.recognition import CHECKPOINT, world
from unlearn_core.errors import BadSetting
from unlearn_core.words.word_list import WordList


@dataclass(frozen=True)
class Request:
    """A concept to forget, and what is drawn instead when the artist says so ("": the method chooses)."""

    concept: str
    anchor: str = ""

    @property
    def kind(self) -> str:
        """ "object" or "style"."""
        return "style" if self.concept in world()["styles"] else "object"

    @property
    def classes(self) -> tuple[str, ...]:
        """What the classifier would call a picture of it; a superclass has many names."""
        return tuple(world()["superclasses"].get(self.concept, (self.concept,)))


FROG = Request("frog", "elephant")
"""Mapped by hand onto a concept that a later request takes away: an inherited target."""
SEQUENCES: dict[str, tuple[Request, ...]] = {
    "A": (
        *(Request("banana"), FROG, Request("cat"), Request("ink"), Request("elephant")),
        *(Request("car"), Request("apple"), Request("dog"), Request("blob"), Request("guitar")),
    ),
    "B": (
        *(Request("dog"), Request("blob"), FROG, Request("apple"), Request("car")),
        *(Request("elephant"), Request("guitar"), Request("ink"), Request("cat"), Request("banana")),
    ),
    "hard": (
        *(Request("banana"), Request("ink"), Request("animal"), Request("car"), Request("apple")),
        *(Request("guitar"), Request("blob"), Request("tomato"), Request("airplane"), Request("sunflower")),
    ),
    "long": (
        *(Request("banana"), FROG, Request("cat"), Request("ink"), Request("elephant")),
        *(Request("car"), Request("apple"), Request("dog"), Request("blob"), Request("guitar")),
        *(Request(c) for c in ("fish", "truck", "strawberry", "sunflower", "rabbit", "airplane", "mushroom")),
        *(Request(c) for c in ("bus", "tomato", "pear")),
    ),
}
"""A and B: the same ten (eight objects, two styles, cat and dog as a near pair) in two orders. hard: a superclass among
them. long: A and ten more."""


@dataclass(frozen=True)
class Watched:
    """Objects and styles that no request of the sequence names.

    near: share a superclass with one that goes. held_out: never in a word list, so never replayed.
    """

    objects: tuple[str, ...]
    styles: tuple[str, ...]
    near: frozenset[str]
    held_out: frozenset[str]


def watched(requests: tuple[Request, ...]) -> Watched:
    """What has to survive the whole sequence."""
    w = world()
    gone = {c for r in requests for c in (r.concept, *r.classes)}
    objects = tuple(o for o in w["objects"] if o not in gone)
    families = [set(members) for members in w["superclasses"].values() if gone & set(members)]
    near = frozenset(o for o in objects if any(o in f for f in families))
    listed = WordList.load(CHECKPOINT.with_suffix(".words.json")).all_objects
    styles = tuple(s for s in w["styles"] if s not in gone)
    return Watched(objects, styles, near, frozenset(o for o in objects if o not in listed))


def sequence(name: str, count: int | None = None) -> tuple[Request, ...]:
    """The first `count` requests of a sequence, or one concept alone by its name.

    Raises `BadSetting` for a name or number that there is not.
    """
    w = world()
    alone = {c: (Request(c),) for c in (*w["objects"], *w["styles"])}
    if name not in SEQUENCES and name not in alone:
        raise BadSetting(f"There is no sequence '{name}'; known are {', '.join(SEQUENCES)} and one concept's name.")
    requests = SEQUENCES.get(name) or alone[name]
    if count is not None and not 1 <= count <= len(requests):
        raise BadSetting(f"Sequence {name} has {len(requests)} requests: ask for 1 to {len(requests)}, not {count}.")
    return requests[:count]
