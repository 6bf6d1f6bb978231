"""Concept words -> forget, mapping and replay prompts. Word lists are data files; no network, no language model."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from .prompt_syntax import as_style
from .word_list import WordList

T = TypeVar("T")
SLOT = re.compile(r"\{(an )?([os])\}")
REMOVED = ""
"""Stands for the mapping that leaves the concept out altogether."""


@dataclass(frozen=True)
class Scene:
    """A prompt in its parts: template with slots `{o}` / `{an o}` and `{s}` / `{an s}`, object, style, ending."""

    template: str
    obj: str = ""
    style: str = ""
    suffix: str = ""

    @property
    def prompt(self) -> str:
        """The whole."""
        return fill(self.template, self.obj, self.style) + self.suffix


def style_words(concept: str) -> str:
    """A style's own words without the word "style" around them, since the templates bring it."""
    words = as_style(concept.strip())
    if words.casefold().startswith("style of "):
        return words[len("style of ") :]
    # "van gogh's style"
    return re.sub(r"['’]s$", "", words[: -len(" style")]) if words.casefold().endswith(" style") else words


def scenes(words: WordList, concept: str, kind: str, count: int, seed: int) -> list[Scene]:
    """`count` different scenes that show the concept among everything else the list knows.

    Three quarters name a thing and a style, the rest the concept alone. Fewer when the list has fewer.
    """
    concept = style_words(concept) if kind == "style" else concept
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


def of_unlisted(words: WordList, general: WordList, style: str, count: int, seed: int) -> tuple[Scene, ...]:
    """At most `count` scenes of a style with things that the general list alone names."""
    unlisted = general.without(words.all_objects).all_objects
    # a quarter of what is asked for names no thing
    found = scenes(replace(words, objects={"": unlisted}), style, "style", count + count // 3, seed) if count else ()
    return tuple(scene for scene in found if scene.obj)[:count]


def place(scene: Scene, concept: str, kind: str) -> Scene:
    """The same scene with another concept; templates bring the word "style" themselves."""
    concept = style_words(concept) if kind == "style" else concept
    obj, style = (scene.obj, concept) if kind == "style" else (concept, scene.style)
    return Scene(scene.template, obj, style, scene.suffix)


def mapped(scene: Scene, anchor: str, kind: str, words: WordList) -> Scene:
    """m(p_f): the scene with the concept replaced by the anchor; for `REMOVED` one without its slot."""
    if anchor != REMOVED:
        return place(scene, anchor, kind)
    if kind == "style":
        return Scene(words.object_templates[0], scene.obj, "", scene.suffix) if scene.obj else Scene("")
    return Scene(words.style_templates[0], "", scene.style, scene.suffix) if scene.style else Scene("")


def fill(template: str, obj: str, style: str) -> str:
    """Put words into the slots; `{an o}` brings the article. What the words hold is no slot."""

    def put(slot: re.Match[str]) -> str:
        word = obj if slot[2] == "o" else style
        article = "an" if word[:1].casefold() in tuple("aeiou") else "a"
        return f"{article} {word}" if slot[1] else word

    return SLOT.sub(put, template)


def names(text: str, concept: str) -> bool:
    """Whether a prompt names the concept as words of its own, in any case."""
    return re.search(rf"(?<!\w){re.escape(concept)}(?!\w)", text, re.IGNORECASE) is not None


def renamed(text: str, concept: str, anchor: str) -> str:
    """The prompt with the concept's words replaced by the anchor's, article included."""
    article = "an" if anchor[:1].casefold() in tuple("aeiou") else "a"
    text = re.sub(
        rf"(?<!\w)(an?) {re.escape(concept)}(?!\w)", lambda _: f"{article} {anchor}".strip(), text, flags=re.I
    )
    return re.sub(rf"(?<!\w){re.escape(concept)}(?!\w)", lambda _: anchor, text, flags=re.I)


def spread(items: Sequence[T], count: int, seed: int) -> list[T]:
    """`count` items drawn without repetition, the same for the same seed."""
    return random.Random(f"{seed}/spread").sample(list(items), min(count, len(items)))
