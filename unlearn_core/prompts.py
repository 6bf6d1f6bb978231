"""Concept words -> forget, mapping and replay prompts. Word lists are data files; no network, no language model."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from .interfaces import BadSetting
from .wish import same_thing

GENERAL_WORDS = Path(__file__).with_name("data") / "words.json"
T = TypeVar("T")
REMOVED = ""
"""Stands for the mapping that leaves the concept out altogether."""


@dataclass(frozen=True)
class Scene:
    """A sentence: template with slots `{o}` / `{an o}` and `{s}` / `{an s}`, object, style, ending."""

    template: str
    obj: str = ""
    style: str = ""
    suffix: str = ""

    @property
    def prompt(self) -> str:
        """The sentence."""
        return fill(self.template, self.obj, self.style) + self.suffix


@dataclass(frozen=True)
class WordList:
    """What the tool knows of language: things by group, styles, and sentences with slots.

    objects: {group: members}; a group's name is the category word ("" has none).
    templates have both slots, object_templates only `{o}`, style_templates only `{s}`.
    suffixes: scene endings for any sentence, "" among them.
    """

    objects: dict[str, tuple[str, ...]]
    styles: tuple[str, ...]
    templates: tuple[str, ...]
    object_templates: tuple[str, ...]
    style_templates: tuple[str, ...]
    suffixes: tuple[str, ...]

    @classmethod
    def load(cls, file: str | Path | None) -> WordList:
        """Read a word list (None: the general one); raises `BadSetting` when it is none."""
        path = Path(file or GENERAL_WORDS)
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            lists = {k: tuple(map(str, data[k])) for k in cls.__dataclass_fields__ if k != "objects"}
            return cls(objects={str(k): tuple(map(str, v)) for k, v in data["objects"].items()}, **lists)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
            raise BadSetting(f"The word list {path.name} cannot be read ({e}); mend or remove it.") from None

    @property
    def all_objects(self) -> tuple[str, ...]:
        """Members of all groups, in order."""
        return tuple(o for members in self.objects.values() for o in members)

    def without(self, concepts: Sequence[str]) -> WordList:
        """The same list with some things and styles left out, also where an article or a plural asks for them."""

        def rest(members: Sequence[str]) -> tuple[str, ...]:
            return tuple(m for m in members if not any(same_thing(m, c) for c in concepts))

        return replace(self, objects={g: rest(m) for g, m in self.objects.items()}, styles=rest(self.styles))

    def kind(self, concept: str) -> str:
        """ "style" or "object", judged by the words alone."""
        words = concept.casefold()
        if words in map(str.casefold, self.styles) or words.endswith(" style") or words.startswith("style of "):
            return "style"
        return "object"

    def category(self, concept: str) -> str:
        """The category word of a known thing, or ""."""
        return next((g for g, members in self.objects.items() if g and concept.casefold() in members), "")

    def members(self, category: str) -> tuple[str, ...]:
        """The things that a category word stands for, "animals" as well as "animal"; none for any other word."""
        return next((members for g, members in self.objects.items() if g and same_thing(g, category)), ())

    def rivals(self, concept: str, kind: str) -> tuple[str, ...]:
        """Everything of the same kind that could stand in its place, the concept itself left out."""
        pool = self.styles if kind == "style" else self.all_objects
        return tuple(w for w in pool if not same_thing(w, concept))


def style_words(concept: str) -> str:
    """A style's own words without the word "style" around them, since the templates bring it."""
    words = concept.strip()
    if words.casefold().startswith("style of "):
        return words[len("style of ") :]
    return words[: -len(" style")] if words.casefold().endswith(" style") else words


def scenes(words: WordList, concept: str, kind: str, count: int, seed: int) -> list[Scene]:
    """`count` different sentences that show the concept among everything else the list knows.

    Three quarters name a thing and a style, the rest the concept alone. Fewer when the list has fewer.
    """
    rng = random.Random(f"{seed}/{concept}")
    alone = words.style_templates if kind == "style" else words.object_templates
    others = words.all_objects if kind == "style" else words.styles
    wanted_alone = min(len(alone) * len(set(words.suffixes)), max(1, count // 4))
    found: dict[str, Scene] = {}
    for wanted, templates in ((wanted_alone, alone), (count, words.templates)):
        deck: list[str] = []
        for _ in range(20 * count):
            if len(found) >= wanted:
                break
            other = ""
            if templates is words.templates:
                if not others:
                    break
                deck = deck or rng.sample(others, len(others))
                other = deck.pop()
            scene = place(Scene(rng.choice(templates), other, other, rng.choice(words.suffixes)), concept, kind)
            found.setdefault(scene.prompt, scene)
    return list(found.values())


def place(scene: Scene, concept: str, kind: str) -> Scene:
    """The same sentence about another concept."""
    obj, style = (scene.obj, concept) if kind == "style" else (concept, scene.style)
    return Scene(scene.template, obj, style, scene.suffix)


def mapped(scene: Scene, anchor: str, kind: str, words: WordList) -> Scene:
    """m(p_f): the sentence with the concept replaced by the anchor; for `REMOVED` a sentence without its slot."""
    if anchor != REMOVED:
        return place(scene, anchor, kind)
    if kind == "style":
        return Scene(words.object_templates[0], scene.obj, "", scene.suffix) if scene.obj else Scene("")
    return Scene(words.style_templates[0], "", scene.style, scene.suffix) if scene.style else Scene("")


def fill(template: str, obj: str, style: str) -> str:
    """Put words into the slots; `{an o}` brings the article."""
    for letter, word in (("o", obj), ("s", style)):
        article = "an" if word[:1].casefold() in tuple("aeiou") else "a"
        template = template.replace(f"{{an {letter}}}", f"{article} {word}").replace(f"{{{letter}}}", word)
    return template


def names(text: str, concept: str) -> bool:
    """Whether a sentence names the concept as words of its own, in any case."""
    return re.search(rf"(?<!\w){re.escape(concept)}(?!\w)", text, re.IGNORECASE) is not None


def renamed(text: str, concept: str, anchor: str) -> str:
    """The sentence with the concept's words replaced by the anchor's, article included."""
    article = "an" if anchor[:1].casefold() in tuple("aeiou") else "a"
    text = re.sub(
        rf"(?<!\w)(an?) {re.escape(concept)}(?!\w)", lambda _: f"{article} {anchor}".strip(), text, flags=re.I
    )
    return re.sub(rf"(?<!\w){re.escape(concept)}(?!\w)", lambda _: anchor, text, flags=re.I)


def spread(items: Sequence[T], count: int, seed: int) -> list[T]:
    """`count` items drawn without repetition, the same for the same seed."""
    return random.Random(f"{seed}/spread").sample(list(items), min(count, len(items)))
