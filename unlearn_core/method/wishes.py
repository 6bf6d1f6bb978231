"""Several concepts of one wish: one request each, one on top of the other."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..config import ForgetConfig, truth_or_refuse
from ..delta.info import MAX_CONCEPT
from ..delta.stack import FORGETS, Stack
from ..errors import BadSetting
from ..words.anchors import ask_about_a_surname, ask_about_anchor, ask_about_no_anchor
from ..words.compare import same_thing
from ..words.prompt_syntax import MARKS
from ..words.questions import STAYING
from ..words.term_lists import unread
from ..words.understood import about_kept, shared_with, understood
from ..words.vocabulary import Vocabulary
from ..words.wish import Wish, read_names, read_wish
from ..words.word_list import WordList
from .request import asked_for
from .vocabularies import vocabulary

KEEPING = re.compile(r"(?i)^\s*(?:please\s+)?keep(?:ing)?\s+(?:the\s+)?(?=\w)")
"""What people say before what is to stay."""


def read_requests(
    values: Mapping[str, Any],
    words_file: str | None,
    stack: Stack,
    term_lists: Sequence[Path] = (),
    rest: bool = False,
) -> tuple[Wish, list[ForgetConfig]]:
    """(how the wish was understood, one request for each concept), from settings by name as a user interface has them.

    words_file: the checkpoint's word list; None for the general one and the vocabulary. term_lists: of the artist, see
    `words.term_lists`. rest: of a list only what the stack has not forgotten yet, as after a stop.

    Raises `BadSetting` before any work: for a wish that is unclear, for
    settings that contradict each other, and for what the stack has already forgotten. With the setting `force` words
    are taken as they stand.
    """
    lists = [WordList.load(words_file), WordList.load(None)]
    known = vocabulary(words_file, term_lists)
    force = truth_or_refuse(values.get("force", False), "Go on regardless")
    wish = read_wish(values.get("concept") or "", lists, force, known)
    if long := next((c for c in wish.concepts if len(c) > MAX_CONCEPT), ""):
        raise BadSetting(f"Forget: at most {MAX_CONCEPT} characters for one concept, not {len(long)}.")
    ask_about_no_anchor(values.get("anchor"), force)
    wish, about = left_of(wish, stack) if rest else (wish, list[str]())
    anchors = names_in(values.get("anchor"), "Draw instead", lists, force, known)
    if len(anchors) > 1:
        raise BadSetting(f"Draw instead: name one concept, not {len(anchors)}.")
    keep = names_in(values.get("keep"), "Keep", lists, force, known)
    shared = {**values, "anchor": "".join(anchors), "keep": keep}
    configs = []
    for number, concept in enumerate(wish.concepts):
        configs.append(ForgetConfig.from_flat({**shared, "concept": concept, "going": wish.concepts[number + 1 :]}))
        kind, name = asked_for(configs[-1], lists, stack, known)
        if not force and configs[-1].kind == "auto":
            ask_about_anchor(name, configs[-1].anchor, kind, lists, known)
            if known and kind == "object" and f'"{concept}"' not in wish.typed.translate(MARKS):
                ask_about_a_surname(name, lists, known)
        # those before it have gone by then, so none of the others stays
        moving = (*stack.concepts(), *(c for c in wish.concepts if c != concept))
        told = understood(name, kind, lists[0], known, moving)
        about.extend(told.sentences if known else told.about_group)
    about += unread(term_lists) if known else []
    kept = configs[0].keep
    about += filter(None, [about_kept(kept, lists[0], known), shared_with(kept, wish.concepts)])
    return replace(wish, about=tuple(about)), configs


def left_of(wish: Wish, stack: Stack) -> tuple[Wish, list[str]]:
    """(the concepts of a list that a stack has not forgotten yet, what is told of the others).

    The wish itself where that is all of it, or nothing.
    """
    gone = [c for e in stack.active if e.strength >= FORGETS for c in e.delta.info.concepts]
    done = [c for c in wish.concepts if any(same_thing(c, other) for other in gone)]
    if not done or len(done) == len(wish.concepts):
        return wish, []
    named = ", ".join(f"'{c}'" for c in done)
    return replace(wish, concepts=tuple(c for c in wish.concepts if c not in done)), [f"{named}: on the stack already."]


def names_in(
    value: Any, label: str, lists: Sequence[WordList], force: bool, known: Vocabulary | None = None
) -> list[str]:
    """The concepts of a field beside the wish. Raises `BadSetting` for what is no text, and for a text without any."""
    texts = [value or ""] if isinstance(value, str) or not value else value
    if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        raise BadSetting(f"{label}: write words, divided by commas.")
    found: list[str] = []
    for text in texts:
        try:
            names = read_names(KEEPING.sub("", text) if label == "Keep" else text, lists, force, known)
        except BadSetting as problem:
            # whoever reads the words knows no other field than the wish's
            said = str(problem).removeprefix("Forget: ").replace(STAYING, "says more than what belongs here")
            raise BadSetting(f"{label}: {said}") from None
        if text.strip() and not names:
            raise BadSetting(f"{label}: '{text.strip()}' names no concept.")
        found += names
    return found
