"""What was asked for, read once and whole: every refusal happens here, before any work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice

from ..config import ForgetConfig
from ..delta.merge import parts_of
from ..delta.stack import FORGETS, Stack
from ..errors import BadSetting
from ..host import HostModel, check_stack
from ..recipe import DEFAULT, Recipe, at_the_entry, thorough
from ..words.compare import same_thing, share_a_word
from ..words.prompt_syntax import without_article
from ..words.prompts import Scene, of_unlisted, scenes, style_words
from ..words.questions import ask_about_syntax, listed
from ..words.understood import forms_of
from ..words.vocabulary import Vocabulary, belongs_to
from ..words.wish import known_form
from ..words.word_list import WordList
from .adapters import peft_parts
from .text_layers import is_target, reads_text
from .vocabularies import vocabulary_of


@dataclass(frozen=True)
class Request:
    """One request on top of a stack.

    concept: the target's words, for a style without the word "style". words: the checkpoint's own list; general: the
    list beside it. layers: {path inside the backbone: name in a delta file} of all layers.
    trained: paths of those that a training changes.
    targets: prompts of the target to learn from; held_out: those that the check asks with.
    recipes: the constants for each kind of concept. vocabulary: of a checkpoint without a list of its own, or with one
    that is not complete; else None.
    """

    config: ForgetConfig
    stack: Stack
    words: WordList
    general: WordList
    concept: str
    kind: str
    layers: Mapping[str, str]
    trained: tuple[str, ...]
    targets: tuple[Scene, ...]
    held_out: tuple[Scene, ...]
    recipes: Mapping[str, Recipe]
    vocabulary: Vocabulary | None = None

    @classmethod
    def read(
        cls,
        host: HostModel,
        config: ForgetConfig,
        stack: Stack,
        general: WordList | None = None,
        recipes: Mapping[str, Recipe] | None = None,
    ) -> Request:
        """Check the request against the model and the stack. Raises `UnlearnError` for whatever cannot be done."""
        names, config = host.layers(), at_own_guidance(config, host)
        check_stack(host, stack)
        stack.parents()  # a file whose name cannot be written down is refused now
        general = general or WordList.load(None)
        words = WordList.load(host.words_file) if host.words_file else general
        vocabulary = vocabulary_of(host)
        kind, concept = asked_for(config, [words, general], stack, vocabulary)
        said = {name.casefold(): kind for name in (concept, config.anchor) if name}
        alone, general = words is general, replace(general, vocabulary=vocabulary, kinds=said)
        words = general if alone else replace(words, vocabulary=vocabulary, kinds=said)
        layers = {path: name for name, path in reversed(names.items())}
        further = config.depth == "deep" or config.scope == "everywhere"
        trained = tuple(path for path in layers if is_target(path, "attention" if further else config.layers))
        if further or not config.closed_form:
            peft_parts()
        recipes = dict(recipes or DEFAULT)
        if not any(map(reads_text, layers)):
            recipes = {name: at_the_entry(r) for name, r in recipes.items()}
        if config.quality == "thorough":
            recipes = {name: thorough(r) for name, r in recipes.items()}
        if vocabulary:
            recipes = {name: for_vocabulary(r, config.check) for name, r in recipes.items()}
        recipe = recipes[kind]
        count = recipe.target_prompts + recipe.held_out_prompts
        others = [*stack.concepts(), *config.going]
        found = scenes(words.without(others), concept, kind, count, config.seed)
        held_out = found[:: max(2, len(found) // recipe.held_out_prompts)][: recipe.held_out_prompts]
        targets = tuple(s for s in found if s not in held_out)
        if kind == "style":
            unlisted = recipe.stacked_unlisted if stack.concepts() else recipe.unlisted_prompts
            targets += of_unlisted(words, general.without(others), concept, unlisted, config.seed)
        if not targets:
            raise BadSetting("The word list has too few prompts: it needs at least two templates, suffixes or styles.")
        return cls(
            config,
            stack,
            words,
            general,
            concept,
            kind,
            layers,
            trained,
            targets,
            tuple(held_out),
            recipes,
            vocabulary,
        )

    @property
    def recipe(self) -> Recipe:
        """The constants for this kind of concept."""
        return self.recipes[self.kind]

    @property
    def rank(self) -> int:
        """Of the closed form's edits: what the artist has asked for, else at least the recipe's."""
        asked = self.config.rank
        return asked if asked != ForgetConfig.rank else max(asked, self.recipe.least_rank)

    @property
    def earlier(self) -> tuple[str, ...]:
        """Concepts that the stack has forgotten."""
        return self.stack.concepts()

    @property
    def holds_unlisted(self) -> bool:
        """Whether the styles that stay are held on unlisted things, as others may go from these."""
        return bool(self.earlier or self.recipe.unlisted_prompts)

    @property
    def near_earlier(self) -> tuple[str, ...]:
        """What lies around them and is preserved as well; of few of them the lists and the sample hold enough."""
        return self.stack.near() if len(self.earlier) > self.recipe.earlier_shared else ()

    @property
    def moving(self) -> tuple[str, ...]:
        """Everything that is not preserved: the target, earlier targets, and what goes next."""
        return (self.concept, *self.earlier, *self.config.going)

    @property
    def rest(self) -> WordList:
        """The checkpoint's words without everything that moves."""
        return self.words.without(self.moving)

    def rivals(self) -> tuple[str, ...]:
        """What could stand in the target's place: words of its kind, those of its own category in the vocabulary first.

        Neither the target, nor what has gone before, nor anything that shares a word with them in the vocabulary, nor
        what draws them by another word: kinds of a category, and the category of one of its kinds.
        """
        listed = self.words.without(self.moving[1:]).rivals(self.concept, self.kind)
        if self.vocabulary is None:
            return listed
        found = tuple(dict.fromkeys([*self.relatives, *listed]))
        again = self.vocabulary.same_again(found, self.moving)
        return tuple(name for name in found if name not in again)

    @property
    def forms(self) -> tuple[str, ...]:
        """Other forms of the target's word that go with it."""
        return () if self.kind == "style" else forms_of(self.concept, self.vocabulary)

    @cached_property
    def relatives(self) -> tuple[str, ...]:
        """The most common terms of the target's own category in the vocabulary; () where there is none.

        Nor beside a list of the checkpoint's own: what that names is sure to be known.
        """
        if self.vocabulary is None or self.words is not self.general:
            return ()
        found = (t.text for t in self.vocabulary.category(self.concept) if t.is_style == (self.kind == "style"))
        gone = {*self.vocabulary.synonyms(self.concept)}
        alone = (n for n in found if n not in gone and not any(belongs_to(n, m) for m in self.moving))
        return tuple(islice(alone, self.recipe.near_anchors))


def for_vocabulary(recipe: Recipe, check: bool) -> Recipe:
    """The constants where the vocabulary is preserved as well.

    A check may begin with what is enough for a list: it sees where that is too little. Without one it has to be enough.
    """
    careful = recipe.tries[:1] if check else ()
    tries = tuple(dict.fromkeys((*careful, *recipe.open_tries)))
    return replace(recipe, tries=tries, earlier_scale=recipe.open_earlier_scale)


def at_own_guidance(config: ForgetConfig, host: HostModel) -> ForgetConfig:
    """The settings with the guidance that the host's model is drawn with, where the artist has set no other."""
    own = getattr(host, "guidance", None)
    return config if own is None or config.guidance != ForgetConfig.guidance else replace(config, guidance=own)


def asked_for(
    config: ForgetConfig, lists: Sequence[WordList], stack: Stack, vocabulary: Vocabulary | None = None
) -> tuple[str, str]:
    """(kind, concept) of a request, a known word as its list spells it.

    lists: the checkpoint's own first. vocabulary: tells styles that no list names. Raises `BadSetting` for what is no
    concept's name, for what the stack has already forgotten, and for an anchor that shares a word with anything that
    has gone or is to go.
    """
    if not config.force:
        ask_about_syntax(config.concept, lists)
    concept = known_form(without_article(config.concept), lists, numbers=False)
    words = replace(lists[0], vocabulary=None if listed(concept, lists) else vocabulary)
    kind = words.kind(concept) if config.kind == "auto" else config.kind
    concept = style_words(concept) if kind == "style" else concept
    check_strength(concept, stack)
    check_not_gone(concept, config.anchor, stack.concepts())
    if kept := next((k for k in config.keep if any(same_thing(k, gone) for gone in stack.concepts())), ""):
        raise BadSetting(f"The stack has forgotten '{kept}', so it cannot be kept: take it off the keep list.")
    if next_one := next((g for g in config.going if share_a_word(config.anchor, g)), ""):
        raise BadSetting(f"'{next_one}' is to go as well, so '{config.anchor}' cannot be drawn instead: name another.")
    return kind, concept


def check_strength(concept: str, stack: Stack) -> None:
    """Raise `BadSetting` where a delta of what is to go is on the stack, too weak to forget it, or turned around.

    A delta inside a merge has the strength with which it was merged, times the merge's own.
    """
    for part in parts_of(stack):
        if part.strength < FORGETS and same_thing(concept, part.concept):
            raise BadSetting(
                f"'{part.name}' is on the stack at strength {part.strength:g}, which does not forget '{concept}': set "
                "it to 1, or take it out and make it anew."
            )


def check_not_gone(concept: str, anchor: str, earlier: Sequence[str]) -> None:
    """Raise `BadSetting` when what is to go, or to be drawn instead, is among the concepts that went before."""
    if any(same_thing(concept, gone) for gone in earlier):
        raise BadSetting(f"The stack has already forgotten '{concept}': take that delta out or name another concept.")
    if shared := next((gone for gone in earlier if share_a_word(anchor, gone)), ""):
        raise BadSetting(f"The stack has forgotten '{shared}', so '{anchor}' cannot be drawn instead: name another.")
