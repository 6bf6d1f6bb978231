"""What a delta must not move in text space: prompts of everything that is to stay as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ..recipe import OBJECT, Recipe
from ..words.prompts import Scene, names, of_unlisted, scenes
from ..words.word_list import WordList
from .text_reader import TextReader
from .token_moments import Moment, moment_of


@dataclass(frozen=True)
class PreservedPrompts:
    """Hundreds of prompts of all words of some lists, of the artist's own words, and of nothing at all.

    lists: the checkpoint's own first, the general one last. moving: concepts whose prompts change or have changed, the
    target first; they are left out. keep: what the artist wants to keep. unlisted: whether things that the general list
    alone names are held in the checkpoint's own words, too.
    """

    lists: Sequence[WordList]
    moving: Sequence[str]
    seed: int
    keep: Sequence[str] = ()
    recipe: Recipe = OBJECT
    unlisted: bool = False

    def weights(self) -> dict[str, float]:
        """{prompt: its weight}; all words of the lists weigh the same, each prompt of the artist's words weighs 1."""
        own, recipe = self.own, self.recipe
        kept = [s for w in self.keep for s in scenes(own, w, own.kind(w), recipe.kept_prompts, self.seed + 1)]
        found = dict.fromkeys(["", *(s.prompt for s in kept)], 1.0)
        few, many = recipe.listed_prompts
        for words in self.lists:
            rest = words.without(self.moving)
            listed = (*rest.all_objects, *rest.styles)
            each = max(few, min(many, recipe.listed_total // max(1, len(listed))))
            for word in listed:
                made = scenes(rest, word, rest.kind(word), each, self.seed)
                for scene in made:
                    found.setdefault(scene.prompt, few / len(made))
        for scene, weight in self.of_unlisted_things() if self.unlisted else ():
            found.setdefault(scene.prompt, weight)
        return {prompt: w for prompt, w in found.items() if not any(names(prompt, m) for m in self.moving)}

    @property
    def own(self) -> WordList:
        """The checkpoint's list without what moves."""
        return self.lists[0].without(self.moving)

    def of_unlisted_things(self) -> Iterator[tuple[Scene, float]]:
        """Scenes in the checkpoint's own templates and styles, with their weights: of each style, with any such things;
        and of all such things of the target's own category, which go with it first."""
        own, recipe = self.own, self.recipe
        general = self.lists[-1].without(self.moving)
        for style in own.styles:
            for scene in of_unlisted(own, general, style, recipe.unlisted_styles, self.seed):
                yield scene, recipe.unlisted_styles_weight
        category = self.lists[-1].category(self.moving[0])
        for thing in general.without(own.all_objects).members(category):
            made = scenes(own, thing, "object", recipe.unlisted_near, self.seed)
            for scene in made:
                yield scene, recipe.listed_prompts[0] / len(made)

    def moment(self, reader: TextReader, pulse: Callable[[], None] = lambda: None) -> Moment:
        """Of the prompts' tokens, by their weights."""
        weights = self.weights()
        return moment_of(reader, list(weights), list(weights.values()), pulse)
