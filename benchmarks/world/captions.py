"""What is said about the world's pictures, to teach the image model and to ask it."""

from __future__ import annotations

import random
from dataclasses import dataclass

from .things import BACKGROUNDS, PAIR_STYLES, STYLES, Thing, things

TEMPLATES = (
    "{an o} in {s} style",
    "a photo of {an o} in {s} style",
    "a picture of {an o} in {s} style",
    "{s} style {o}",
    "the {o}, {s} style",
    "{an o} drawn in {s} style",
    "{an s} drawing of {an o}",
    "{an s} picture of the {o}",
    "{o}, {s}",
    "{s} {o}",
)
HELD_OUT = ("{an s} style photo of {an o}", "the {o} drawn in the style of {s}", "a drawing of the {o}, {s}")
OBJECT_TEMPLATES = ("{an o}", "a photo of {an o}", "the {o}", "{o}")
STYLE_TEMPLATES = ("a picture in {s} style", "{s} style")
SUFFIXES = (" on a {b} background", ", {b} background")
DESCRIBED = ("{d} in {s} style", "a picture of {d} in {s} style", "{s} style, {d}", "{d}, {s}")
DESCRIBED_HELD_OUT = ("a drawing of {d}, {s}",)
PAIRS = (
    "{an o} on the left and {an p} on the right in {s} style",
    "{s} style, {an o} on the left and {an p} on the right",
    "{an o} left, {an p} right, {s}",
)
PAIRS_HELD_OUT = ("{an s} picture of {an o} on the left and {an p} on the right",)
EMPTY, ALONE, STYLED, KIND, SYNONYM, DESCRIBED_SHARE, PAIR = 0.08, 0.05, 0.02, 0.02, 0.13, 0.12, 0.22
"""Shares of captions: nothing, the thing without a style, a style alone, its kind, its synonym, its description, two
things; the rest names a thing in a style."""
SUFFIXED = 0.2
"""Of all captions that say something, how many name the background."""


@dataclass(frozen=True)
class Shown:
    """What a picture shows: one thing, or two (`right`), in a style over a background."""

    thing: Thing
    style: str
    background: str
    right: Thing | None = None


def fill(template: str, **words: str) -> str:
    """`{x}` is a word, `{an x}` the word with its article; words are given by their letters."""
    for letter, word in words.items():
        article = "an" if word[:1] in "aeiou" else "a"
        template = template.replace(f"{{an {letter}}}", f"{article} {word}").replace(f"{{{letter}}}", word)
    return template


def lesson(rng: random.Random) -> tuple[str, Shown]:
    """A caption to learn from, and the picture that it is learned with."""
    shown = Shown(rng.choice(things()), rng.choice(tuple(STYLES)), rng.choice(tuple(BACKGROUNDS)))
    if (kind := rng.random()) < EMPTY:
        return "", shown
    if kind > 1 - PAIR:
        right = rng.choice([t for t in things() if t is not shown.thing])
        shown = Shown(shown.thing, rng.choice(PAIR_STYLES), shown.background, right)
        return told(shown, kind, rng), shown
    suffix = fill(rng.choice(SUFFIXES), b=shown.background) if rng.random() < SUFFIXED else ""
    return told(shown, kind, rng) + suffix, shown


def told(shown: Shown, kind: float, rng: random.Random) -> str:
    """One way to say what a picture shows; `kind` is where 0..1 the caption falls among the shares."""
    t, s = shown.thing, shown.style
    if shown.right:
        return fill(rng.choice(PAIRS), o=t.name, p=shown.right.name, s=s)
    at = EMPTY
    for share, templates, words in (
        (ALONE, OBJECT_TEMPLATES, {"o": rng.choice((t.name, t.name, t.synonym))}),
        (STYLED, STYLE_TEMPLATES, {"s": s}),
        (KIND, TEMPLATES, {"o": t.kind, "s": s}),
        (SYNONYM, TEMPLATES, {"o": t.synonym, "s": s}),
        (DESCRIBED_SHARE, DESCRIBED, {"d": t.description, "s": s}),
    ):
        at += share
        if kind < at:
            return fill(rng.choice(templates), **words)
    return fill(rng.choice(TEMPLATES), o=t.name, s=s)
