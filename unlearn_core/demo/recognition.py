"""The demo model's pictures, counted by the bundled classifier before and after."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..delta.stack import Stack
from ..errors import UnlearnError
from ..host import HostModel
from ..preview import pictures
from ..sampling import Sampler
from ..words.prompts import fill
from .classifier import OTHER, DemoClassifier

FOLDER = Path(__file__).resolve().parents[2] / "assets" / "demo"
CHECKPOINT = FOLDER / "demo.safetensors"
IMAGES = 12
"""Pictures of each concept that is kept."""
TARGET_ROUNDS = 2
"""Times that each caption template asks for the target, twice each time."""
STEPS = 8
"""Euler steps of a picture; the model is recognised as well as with 20."""


@dataclass(frozen=True)
class Question:
    """A caption and what its picture has to show."""

    caption: str
    obj: str
    style: str


def check_present() -> None:
    """Raise `UnlearnError` where the demo model is missing: an installed package comes without it."""
    if not CHECKPOINT.is_file():
        raise UnlearnError(
            "The demo model is not part of the installed package: clone the repository and run "
            "'python install.py demo' there."
        )


def world() -> dict:
    """The demo model's objects, styles and caption templates, held-out ones included."""
    return json.loads((FOLDER / "world.json").read_text(encoding="utf-8"))


def questions(target: str, images: int = IMAGES) -> tuple[list[Question], list[Question]]:
    """(questions about the target, questions about everything else).

    Each object is asked for `images` times, in every style and in trained and held-out templates; the target in all
    styles (or objects) and all templates. Questions about other objects leave a target style out.
    """
    w = world()
    objects, styles = list(w["objects"]), list(w["styles"])
    templates = [*w["templates"], *w["held_out_templates"]]
    about, rest = [], []
    pairs = [(target, s) for s in styles] if target in objects else [(o, target) for o in objects]
    for i, template in enumerate(templates * TARGET_ROUNDS):
        o, s = pairs[i % len(pairs)]
        about.append(Question(fill(template, o, s), o, s))
        o, s = pairs[(5 * i + 2) % len(pairs)]
        about.append(Question(fill(template, o, s), o, s))
    kept_styles = [s for s in styles if s != target]
    for k, o in enumerate(o for o in objects if o != target):
        for i in range(images):
            s = kept_styles[(i + k) % len(kept_styles)]
            rest.append(Question(fill(templates[(5 * i + 7 * k) % len(templates)], o, s), o, s))
    return about, rest


def recognition(
    host: HostModel, stack: Stack, asked: list[Question], seed: int, tick: Callable[[], None] = lambda: None
) -> list[tuple[str, str]]:
    """What the classifier sees in one picture of each question: (object, style)."""
    drawn = pictures(Sampler(host, STEPS, tick=tick), stack, [q.caption for q in asked], seed)
    return DemoClassifier.load(FOLDER / "classifier.safetensors").recognise(drawn * 2 - 1)


def ticks(host: HostModel, target: str, stacks: int) -> int:
    """How often `measure` calls its `tick` for so many stacks."""
    return stacks * Sampler(host, STEPS).ticks(sum(map(len, questions(target))))


def share(hits: list[bool]) -> float:
    """Part of the answers that are true, 0..1."""
    return sum(hits) / max(1, len(hits))


def measure(host: HostModel, stacks: dict[str, Stack], target: str, seed: int, tick: Callable[[], None]) -> dict:
    """Recognition rates 0..1 of target and others under each named stack, as the report's `classifier` part.

    What all the stacks have forgotten already counts in `per_concept` alone.
    """
    about, rest = questions(target)
    gone = set.intersection(*({c.casefold() for c in s.concepts()} for s in stacks.values()))
    of_object = target in world()["objects"]
    out: dict = {"images_per_concept": IMAGES, "target_images": len(about), "per_concept": {}}
    for name, stack in stacks.items():
        seen = recognition(host, stack, [*about, *rest], seed, tick)
        seen_target, seen_rest = seen[: len(about)], seen[len(about) :]
        out[f"target_{name}"] = share([(o if of_object else s) == target for o, s in seen_target])
        pairs = list(zip(seen_rest, rest, strict=True))
        out[f"others_{name}"] = share([o == q.obj for (o, _), q in pairs if q.obj not in gone])
        out[f"styles_{name}"] = share([s == q.style for (_, s), q in pairs if q.style not in gone])
        out[f"broken_{name}"] = share([OTHER in answer for answer in seen_rest])
        for key, pick in (("obj", 0), ("style", 1)):
            for concept in dict.fromkeys(getattr(q, key) for q in rest):
                hits = [a[pick] == concept for a, q in zip(seen_rest, rest, strict=True) if getattr(q, key) == concept]
                out["per_concept"].setdefault(concept, {})[name] = share(hits)
    return out
