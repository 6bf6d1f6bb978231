"""What is asked before any work of what is to be drawn instead, and of names that may be an artist's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import BadSetting
from .questions import INSIST, listed
from .vocabulary import Vocabulary
from .word_list import WordList

LEAVE_IT = {"none", "empty", "auto", "automatic", "default", "nothing", "n/a", "-", "leave it out", "leave it", "any"}
"""What people write to say that nothing of their own is meant."""


def ask_about_no_anchor(text: Any, force: bool) -> None:
    """Raise `BadSetting` for words like "none" where a thing is to be named."""
    if isinstance(text, str) and text.strip().casefold() in LEAVE_IT and not force:
        raise BadSetting(
            f"Draw instead: '{text.strip()}' would be drawn. Leave this field empty to have it chosen, {INSIST}."
        )


def ask_about_anchor(
    concept: str, anchor: str, kind: str, lists: Sequence[WordList], vocabulary: Vocabulary | None
) -> None:
    """Raise `BadSetting` for an anchor that is another word for the concept, or of the other kind.

    kind: the concept's, "object" or "style".
    """
    if not anchor:
        return
    if vocabulary and any(anchor.casefold() == s.casefold() for s in vocabulary.synonyms(concept)):
        raise BadSetting(
            f"Draw instead: '{anchor}' is another word for '{concept}', which would be drawn again: name something "
            f"else, leave the field empty, {INSIST}."
        )
    other = known_kind(anchor, lists, vocabulary)
    if other and other != kind:
        is_, not_ = ("a style", "a thing") if other == "style" else ("a thing", "a style")
        raise BadSetting(
            f"Draw instead: '{anchor}' is {is_} and '{concept}' {not_}: name {not_}, leave the field empty, {INSIST}."
        )


def known_kind(text: str, lists: Sequence[WordList], vocabulary: Vocabulary | None) -> str:
    """The kind of what cannot be the other one, "" for others: a pencil or a sticker may be a style or a thing."""
    if vocabulary is None:
        words = next((words for words in lists if listed(text, [words])), None)
        return words.kind(listed(text, [words])) if words else ""
    term = vocabulary.find(text)
    if term is None or term.kind == "thing":
        return ""
    return "object" if not term.is_style else "style" if term.is_name else ""


def ask_about_a_surname(concept: str, lists: Sequence[WordList], vocabulary: Vocabulary) -> None:
    """Raise `BadSetting` for one word that nothing knows but as the last one of an artist's name: "Rutkowski"."""
    if " " in concept or listed(concept, lists) or vocabulary.find(concept):
        return
    if artist := vocabulary.artist_called(concept):
        raise BadSetting(
            f"'{concept}' may be the style of {artist}: write '{artist}' or '{concept} style' for the style, put it in "
            f"quotes as a thing, {INSIST}."
        )
