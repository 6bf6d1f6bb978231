"""One request as every method reads it: the model, the earlier requests, the seed, and the product's own prompts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from unlearn_core.method.score_distance import text_distances
from unlearn_core.recipe import DEFAULT, Recipe
from unlearn_core.words.prompts import REMOVED, Scene, mapped, scenes
from unlearn_core.words.word_list import WordList

from .learned import Learned
from .models import OpenModel
from .sequences import Request

Tick = Callable[[float], None]
"""Called with the part of a request's work that is done, 0..1."""


def silent(_: float) -> None:
    """A tick that nobody hears."""


@dataclass(frozen=True)
class Task:
    """A request on top of `past`.

    Every method gets the product's own prompts of the target, so that only losses and choices differ.
    recipes: the product's constants; the baselines take the number of prompts from them. together: further requests
    that are to go at once with it. avoid: concepts that are no anchors for another reason than that they have gone.
    """

    host: OpenModel
    request: Request
    past: Sequence[Learned] = ()
    seed: int = 0
    tick: Tick = silent
    recipes: Mapping[str, Recipe] | None = None
    together: Sequence[Request] = ()
    avoid: Sequence[str] = ()

    @property
    def requests(self) -> list[Request]:
        """All that are to go at once."""
        return [self.request, *self.together]

    @cached_property
    def parts(self) -> list[Task]:
        """One task for each of them; what the others name is no anchor."""
        names = [r.concept for r in self.requests]
        return [
            replace(self, request=r, together=(), avoid=[n for n in names if n != r.concept]) for r in self.requests
        ]

    @cached_property
    def words(self) -> WordList:
        """The checkpoint's word list, or the general one."""
        return WordList.load(self.host.words_file) if self.host.words_file else self.general

    @cached_property
    def general(self) -> WordList:
        """The general words, of the large world without what no list may name there."""
        return getattr(self.host, "general", None) or WordList.load(None)

    @cached_property
    def rest(self) -> WordList:
        """The word list without the target and earlier targets."""
        return self.words.without([self.request.concept, *self.avoid, *(p.concept for p in self.past)])

    @cached_property
    def scenes(self) -> tuple[Scene, ...]:
        """The target among everything else the list knows."""
        kind = self.request.kind
        count = (self.recipes or DEFAULT)[kind].training_prompts
        return tuple(scenes(self.words, self.request.concept, kind, count, self.seed))

    @property
    def prompts(self) -> list[str]:
        """The forget prompts."""
        return [s.prompt for s in self.scenes]

    def mapped(self, anchor: str) -> list[str]:
        """The same prompts about something else."""
        return [mapped(s, anchor, self.request.kind, self.words).prompt for s in self.scenes]

    def nearest(self) -> list[str]:
        """Objects (or styles) of the list that are not forgotten, those of the nearest words first."""
        rivals = list(self.rest.styles if self.request.kind == "style" else self.rest.all_objects)
        one = self.scenes[0]
        texts = [one.prompt, *(mapped(one, r, self.request.kind, self.words).prompt for r in rivals)]
        encoded = self.host.encode(texts)
        order = text_distances(encoded[:1], encoded[1:]).argsort().tolist()
        return [rivals[i] for i in order]

    def superclass(self) -> str:
        """The word for its kind of thing; `REMOVED` where the list has none, and for styles."""
        return self.words.category(self.request.concept) if self.request.kind == "object" else REMOVED

    def pairs(self, anchor_prompts: Sequence[str]) -> tuple[tuple[str, str], ...]:
        """(forget prompt, what it was mapped to), as later requests want to know it."""
        return tuple(zip(self.prompts, anchor_prompts, strict=True))


def shared_anchors(tasks: Sequence[Task]) -> list[str]:
    """The nearest words, none for many more targets than another; a request's own choice where it has one."""
    used: Counter[str] = Counter()
    found = []
    for task in tasks:
        nearest = task.nearest()
        most = 1 + len(tasks) // len(nearest)
        free = [n for n in nearest if used[n] < most] or nearest
        found.append(task.request.anchor or free[0])
        used[found[-1]] += 1
    return found
