"""Word lists: things by group, styles, and prompts with slots. Data files; no network, no language model."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import BadSetting
from ..untrusted import Unreadable, read_json
from .compare import same_thing
from .vocabulary import Vocabulary

GENERAL_WORDS = Path(__file__).with_name("data") / "words.json"
MAX_FILE, MAX_WORDS, MAX_TEMPLATES, MAX_LENGTH = 256 * 1024, 2000, 200, 120
SLOTS = {"templates": "os", "object_templates": "o", "style_templates": "s", "suffixes": ""}
"""Slots that each entry of a list has to have, and no other."""


@dataclass(frozen=True)
class WordList:
    """What the tool knows of language: things by group, styles, and prompts with slots.

    objects: {group: members}; a group's name is the category word ("" has none).
    templates have both slots, object_templates only `{o}`, style_templates only `{s}`.
    suffixes: scene endings for any prompt, "" among them. complete: whether it names all that its checkpoint draws;
    beside another list the vocabulary counts as well. vocabulary: tells styles that the list does not name. kinds:
    {word in small letters: its kind} where somebody has said what it is.
    """

    objects: dict[str, tuple[str, ...]]
    styles: tuple[str, ...]
    templates: tuple[str, ...]
    object_templates: tuple[str, ...]
    style_templates: tuple[str, ...]
    suffixes: tuple[str, ...]
    complete: bool = True
    vocabulary: Vocabulary | None = field(default=None, repr=False, compare=False)
    kinds: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def load(cls, file: str | Path | None) -> WordList:
        """Read a word list (None: the general one); raises `BadSetting` when it is none."""
        path = Path(file or GENERAL_WORDS)
        try:
            return cls(**read_lists(read_json(path, MAX_FILE)))
        except Unreadable as e:
            raise BadSetting(f"The word list {path.name} cannot be read: {e}; mend or remove it.") from None
        except OSError as e:
            raise BadSetting(f"The word list {path.name} cannot be read ({e.strerror}); mend or remove it.") from None

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
        """ "style" or "object": as somebody has said, else by the words, by the list, and by the vocabulary."""
        words = concept.casefold()
        if words in self.kinds:
            return self.kinds[words]
        if words in map(str.casefold, self.styles) or words.endswith(" style") or words.startswith("style of "):
            return "style"
        if self.vocabulary is None or words in map(str.casefold, self.all_objects):
            return "object"
        term = self.vocabulary.find(concept)
        return "style" if term and term.is_style else "object"

    def category(self, concept: str) -> str:
        """The category word of a known thing, "an apple" and "Apples" as well; or ""."""
        return next((g for g, m in self.objects.items() if g and any(same_thing(w, concept) for w in m)), "")

    def members(self, category: str) -> tuple[str, ...]:
        """The things that a category word stands for, "animals" as well as "animal"; none for any other word."""
        return next((members for g, members in self.objects.items() if g and same_thing(g, category)), ())

    def rivals(self, concept: str, kind: str) -> tuple[str, ...]:
        """Everything of the same kind that could stand in its place, the concept itself left out."""
        pool = self.styles if kind == "style" else self.all_objects
        return tuple(w for w in pool if not same_thing(w, concept))


def read_lists(data: Any) -> dict[str, Any]:
    """The fields of a `WordList` from a file's JSON, which anybody may have made. Raises `Unreadable`."""
    if not isinstance(data, dict) or not isinstance(data.get("objects"), dict):
        raise Unreadable("it has no table 'objects' of groups and their words")
    objects = {line(group, "objects"): lines(words, f"objects: {group}") for group, words in data["objects"].items()}
    found = {"styles": lines(data.get("styles"), "styles")}
    if sum(map(len, objects.values())) + len(found["styles"]) > MAX_WORDS:
        raise Unreadable(f"it has more than {MAX_WORDS} words")
    for name, slots in SLOTS.items():
        found[name] = lines(data.get(name), name)
        if not 1 <= len(found[name]) <= MAX_TEMPLATES:
            raise Unreadable(f"'{name}' needs from 1 to {MAX_TEMPLATES} entries")
        for template in found[name]:
            has = re.findall(r"\{(?:an )?([os])\}", template)
            rest = re.sub(r"\{(?:an )?[os]\}", "", template)
            if "".join(sorted(has)) != slots or "{" in rest or "}" in rest:
                wanted = " and ".join(f"{{{slot}}}" for slot in slots) or "no slots"
                raise Unreadable(f"'{template}' in '{name}' has to have {wanted}")
    complete = data.get("complete", True)
    if not isinstance(complete, bool):
        raise Unreadable("'complete' has to be true or false")
    words = (*filter(None, objects), *(w for members in objects.values() for w in members), *found["styles"])
    if (none := next((w for w in words if not can_be_drawn(w)), None)) is not None:
        raise Unreadable(f"its entry '{none}' is no word")
    return {"objects": objects, "complete": complete, **found}


def lines(value: Any, name: str) -> tuple[str, ...]:
    """A list of words or templates. Raises `Unreadable`."""
    if not isinstance(value, list):
        raise Unreadable(f"it lacks the list '{name}'")
    return tuple(line(text, name) for text in value)


def can_be_drawn(word: str) -> bool:
    """Whether a word says anything, as a letter, a number or an emoji does, and holds no slot."""
    return not set("{}") & set(word) and any(c.isalnum() or unicodedata.category(c) == "So" for c in word)


def line(text: Any, name: str) -> str:
    """One word or template: a short line that can be shown. Raises `Unreadable`."""
    if not isinstance(text, str) or len(text) > MAX_LENGTH or not text.isprintable():
        raise Unreadable(f"an entry of '{name}' is no line of at most {MAX_LENGTH} readable characters")
    return text
