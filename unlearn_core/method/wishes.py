"""Several concepts of one wish: one request each, one on top of the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..config import ForgetConfig, truth_or_refuse
from ..delta.stack import Stack
from ..errors import BadSetting
from ..words.understood import about_kept, understood
from ..words.wish import Wish, read_names, read_wish
from ..words.word_list import WordList
from .request import asked_for
from .vocabularies import vocabulary


def read_requests(
    values: Mapping[str, Any], words_file: str | None, stack: Stack, term_lists: Sequence[Path] = ()
) -> tuple[Wish, list[ForgetConfig]]:
    """(how the wish was understood, one request for each concept), from settings by name as a user interface has them.

    words_file: the checkpoint's word list; None for the general one and the vocabulary. term_lists: of the artist, see
    `words.term_lists`. Raises `BadSetting` before any work: for a wish that is unclear, for
    settings that contradict each other, and for what the stack has already forgotten. With the setting `force` words
    are taken as they stand.
    """
    lists = [WordList.load(words_file), WordList.load(None)]
    known = vocabulary(words_file, term_lists)
    force = truth_or_refuse(values.get("force", False), "Go on regardless")
    wish = read_wish(values.get("concept") or "", lists, force, known)
    anchors = read_names(str(values.get("anchor") or ""), lists, force, known)
    if len(anchors) > 1:
        raise BadSetting(f"Draw instead: name one concept, not {len(anchors)}.")
    kept = values.get("keep") or ()
    texts = [kept] if isinstance(kept, str) else kept
    keep = [name for text in texts for name in read_names(str(text), lists, force, known)]
    shared = {**values, "anchor": "".join(anchors), "keep": keep}
    configs, about = [], list[str]()
    for number, concept in enumerate(wish.concepts):
        configs.append(ForgetConfig.from_flat({**shared, "concept": concept, "going": wish.concepts[number + 1 :]}))
        kind, name = asked_for(configs[-1], lists, stack, known)
        if known:
            moving = (*stack.concepts(), *wish.concepts[number + 1 :])
            about += understood(name, kind, lists[0], known, moving).sentences
    about += filter(None, [about_kept(configs[0].keep, lists[0], known)])
    return replace(wish, about=tuple(about)), configs
