"""What a delta must not move in text space: prompts of everything that is to stay as it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..recipe import OBJECT, Recipe
from ..words.prompts import names, of_unlisted, scenes
from ..words.word_list import WordList
from .text_reader import TextReader
from .token_moments import Moment, moment_of


@dataclass(frozen=True)
class PreservedPrompts:
    """Hundreds of prompts of all words of some lists, of the artist's own words, and of nothing at all.

    lists: the checkpoint's own first. moving: concepts whose prompts change or have changed; they are left out.
    keep: what the artist wants to keep. unlisted: whether the own styles are held on unlisted things, too.
    """

    lists: Sequence[WordList]
    moving: Sequence[str]
    seed: int
    keep: Sequence[str] = ()
    recipe: Recipe = OBJECT
    unlisted: bool = False

    def weights(self) -> dict[str, float]:
        """{prompt: its weight}; all words of the lists weigh the same, each prompt of the artist's words weighs 1."""
        own, recipe = self.lists[0].without(self.moving), self.recipe
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
        general = self.lists[-1].without(self.moving)
        for style in own.styles if self.unlisted else ():
            for scene in of_unlisted(own, general, style, recipe.unlisted_styles, self.seed):
                found.setdefault(scene.prompt, recipe.unlisted_styles_weight)
        return {prompt: w for prompt, w in found.items() if not any(names(prompt, m) for m in self.moving)}

    def moment(self, reader: TextReader, pulse: Callable[[], None] = lambda: None) -> Moment:
        """Of the prompts' tokens, by their weights."""
        weights = self.weights()
        return moment_of(reader, list(weights), list(weights.values()), pulse)
