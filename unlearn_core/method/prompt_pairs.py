"""Which prompts are mapped onto which: those of the target, and those of earlier requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..words.plurals import plural
from ..words.prompts import fill, mapped, names, renamed
from ..words.word_list import WordList
from .request import Request

OF_SEVERAL = "a photo of {o}", "{o}", "two {o}", "a picture of many {o}"
"""Prompts of a plural."""
Pair = tuple[str, str]
"""A prompt, and the one it is mapped onto."""


@dataclass(frozen=True)
class PromptPairs:
    """Pairs by where their prompts come from.

    target: the target's prompts with the anchor in its place. inherited: prompts of earlier requests whose anchor is
    today's target: they generate it, so they are mapped anew. erased: all other prompts of earlier requests.
    """

    target: tuple[Pair, ...]
    inherited: tuple[Pair, ...]
    erased: tuple[Pair, ...]

    @classmethod
    def make(cls, request: Request, anchor: str) -> PromptPairs:
        """Pair the request's prompts, and those that the stack remembers."""
        words, kind, concept = request.words, request.kind, request.concept
        target = tuple((s.prompt, mapped(s, anchor, kind, words).prompt) for s in request.targets)
        # Of several mappings of a prompt the last holds: the earlier ones generate what has gone since.
        gone = dict(request.stack.prompts())
        spellings = {concept: anchor} | {form: anchor and plural(anchor) for form in request.forms}

        def today(mapped_onto: str) -> str:
            for spelling, other in spellings.items():
                mapped_onto = renamed(mapped_onto, spelling, other)
            return mapped_onto

        inherited = tuple((p, today(m)) for p, m in gone.items() if any(names(m, s) for s in spellings))
        erased = tuple((p, m) for p, m in gone.items() if not any(names(m, s) for s in spellings))
        several = of_forms(request.forms, anchor, words, request.recipe.form_prompts) if anchor else ()
        return cls(target + several, inherited, erased)

    @property
    def forget(self) -> tuple[Pair, ...]:
        """All that this request maps."""
        return self.target + self.inherited


def of_forms(forms: Sequence[str], anchor: str, words: WordList, count: int) -> tuple[Pair, ...]:
    """`count` prompts of each plural with the anchor's in its place; words: the list whose scenes they are set in."""
    endings = list(dict.fromkeys(words.suffixes))
    templates = [t + ending for ending in endings for t in OF_SEVERAL][:count]
    return tuple((fill(t, form, ""), fill(t, plural(anchor), "")) for form in forms for t in templates)
