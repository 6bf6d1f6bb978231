"""Which prompts are mapped onto which: those of the target, and those of earlier requests."""

from __future__ import annotations

from dataclasses import dataclass

from ..words.prompts import mapped, names, renamed
from .request import Request

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
        inherited = tuple((p, renamed(m, concept, anchor)) for p, m in gone.items() if names(m, concept))
        erased = tuple((p, m) for p, m in gone.items() if not names(m, concept))
        return cls(target, inherited, erased)

    @property
    def forget(self) -> tuple[Pair, ...]:
        """All that this request maps."""
        return self.target + self.inherited
