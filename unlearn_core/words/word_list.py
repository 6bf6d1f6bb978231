"""Word lists: things by group, styles, and prompts with slots. Data files; no network, no language model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import BadSetting
from .wish import same_thing

GENERAL_WORDS = Path(__file__).with_name("data") / "words.json"


@dataclass(frozen=True)
class WordList:
    """What the tool knows of language: things by group, styles, and prompts with slots.

    objects: {group: members}; a group's name is the category word ("" has none).
    templates have both slots, object_templates only `{o}`, style_templates only `{s}`.
    suffixes: scene endings for any prompt, "" among them.
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
