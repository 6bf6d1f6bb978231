"""What no list names: words of the vocabulary that are preserved beside those of the lists.

A sample of the whole vocabulary is read once for each text encoder and kept on disk. For each target the words around
it are found in the vocabulary itself: its own category and those of the words of the sample that are nearest to it,
and of these the ones that are nearest by what the layers read. Neither costs a pass of the denoiser where text enters
as it is encoded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ..host import HostModel
from ..recipe import Recipe
from ..saved_work import NOTHING, NoSavedWork, SavedWork, digest
from ..words.prompts import fill, spread
from ..words.vocabulary import Term, Vocabulary, belongs_to, may_be_form
from ..words.word_list import WordList
from .request import Request
from .text_reader import TextReader, Tokens
from .token_moments import PROMPTS_AT_ONCE, Moment, moment_of

PROBE = "", "a photo of a cat", "watercolor"
"""Prompts whose tokens tell one text encoder from another, by every bit."""
COMMON = 8000
"""Most common terms of the vocabulary, out of which the sample is drawn."""
IN_TEMPLATE = 4
"""One in so many words of the sample is read in a template as well."""
MOST_KEPT = 512 * 2**20
"""Bytes of disk that all samples may take together; one of the widest text space takes 64 MB."""
NEAREST = 24
"""Words of the sample, the nearest ones, whose categories are looked through."""


@dataclass(frozen=True)
class Sample:
    """What some layers read of a sample of terms.

    moment: E[c c^T] over the tokens of their prompts, all bare and some in a template. means: of each bare prompt's
    tokens, `[terms, d]`.
    """

    terms: tuple[Term, ...]
    moment: Moment
    means: Tensor

    @property
    def centre(self) -> Tensor:
        """The mean of the means, `[d]`: what all prompts share."""
        return self.means.mean(0)


@dataclass(frozen=True)
class Held:
    """The moment of everything that is preserved, and the terms around the target that are."""

    moment: Moment
    near: tuple[str, ...] = ()


@dataclass(frozen=True)
class OpenWords:
    """The vocabulary as one request sees it.

    vocabulary: all of it. allowed: without what moves, its forms, its synonyms and all that shares a word with it.
    moving: the target first. is_style: of the target. keep: what the artist wants to keep, which counts as near.
    words: a list that gives the templates. pulse: a sign of life.
    """

    vocabulary: Vocabulary
    allowed: Vocabulary
    moving: tuple[str, ...]
    is_style: bool
    keep: tuple[str, ...]
    words: WordList
    recipe: Recipe
    pulse: Callable[[], None] = lambda: None

    @classmethod
    def make(cls, request: Request, pulse: Callable[[], None] = lambda: None) -> OpenWords:
        """Of a request on a checkpoint without a list of its own."""
        vocabulary = request.vocabulary or Vocabulary(())
        allowed, style = vocabulary.without(request.moving), request.kind == "style"
        return cls(
            vocabulary, allowed, request.moving, style, request.config.keep, request.words, request.recipe, pulse
        )

    def preserved(
        self, reader: TextReader, listed: Moment, kept: NoSavedWork = NOTHING, earlier: Sequence[str] = ()
    ) -> Held:
        """Everything that is preserved: the lists, the sample, the target's neighbours, and those of earlier targets.

        listed: the moment of the lists. kept: where what was read of the sample is kept. earlier: neighbours of earlier
        targets; those that move now, or mean nothing to this vocabulary, are left out.
        """
        sample = self.sample(reader, kept)
        near = self.neighbours(reader, sample)
        still = [t for t in map(self.term, dict.fromkeys(earlier)) if t not in near and self._is_allowed(t)]
        both = [*near, *spread(still, self.recipe.earlier_near, 0)]
        return Held(self.beside(listed, reader, sample, both), tuple(t.text for t in near))

    def beside(self, listed: Moment, reader: TextReader, sample: Sample, near: Sequence[Term]) -> Moment:
        """The same with neighbours that are known: those of several targets, or of one."""
        kept_words, recipe = tuple(map(self.term, self.keep)), self.recipe
        parts = [(1 - recipe.open_weight - recipe.near_weight, listed), (recipe.open_weight, self.rest(reader, sample))]
        if near or kept_words:
            weights = [1.0] * len(near) + [recipe.kept_as_near] * len(kept_words)
            found = moment_of(reader, self.prompts([*near, *kept_words]), weights, self.pulse)
            parts.append((recipe.near_weight, found))
        share = sum(weight for weight, _ in parts)
        total = sum((moment.value * (weight / share) for weight, moment in parts), start=torch.zeros(()).double())
        return Moment(total, sum(moment.prompts for _, moment in parts))

    def sample(self, reader: TextReader, kept: NoSavedWork = NOTHING) -> Sample:
        """The sample's moment and means: as they were kept, or read now."""
        terms = sampled(self.vocabulary, self.recipe.open_words)
        probe = reader.read(PROBE)
        made_of = self.in_both(terms), probe.values
        kept.begin(digest("vocabulary", *made_of), lambda _: None)
        read = partial(self._read, reader, terms)
        found = kept.part("sample", (probe.counts,), read)
        return Sample(terms, Moment(found["moment"].double(), len(self.in_both(terms))), found["means"])

    def _read(self, reader: TextReader, terms: Sequence[Term]) -> dict[str, Tensor]:
        """Rounded, so that what was kept is what was read."""
        watched = Watched(reader)
        moment = moment_of(watched, self.in_both(terms), pulse=self.pulse)
        return {"moment": moment.value.float(), "means": torch.cat(watched.means)[: len(terms)]}

    def rest(self, reader: TextReader, sample: Sample) -> Moment:
        """The sample's moment without the terms that are not allowed: theirs is taken off again."""
        gone = [t for t in sample.terms if self.allowed.find(t.text) is None]
        if not gone:
            return sample.moment
        own = moment_of(reader, self.in_both(gone), pulse=self.pulse)
        left = sample.moment.prompts - own.prompts
        return Moment((sample.moment.value * sample.moment.prompts - own.value * own.prompts) / left, left)

    def term(self, word: str) -> Term:
        """The vocabulary's term for a word, or one of its own."""
        return self.vocabulary.find(word) or Term(word, "style" if self.words.kind(word) == "style" else "thing", "")

    def neighbours(self, reader: TextReader, sample: Sample) -> tuple[Term, ...]:
        """The terms nearest to the target by what the layers read, the nearest first; none of its forms."""
        target = self.moving[0]
        (own,) = means_of(reader, [target])
        near = torch.cosine_similarity(sample.means - sample.centre, (own - sample.centre)[None])
        order = [sample.terms[i] for i in near.argsort(descending=True, stable=True).tolist()]
        found = self.candidates([t for t in order if t.is_style == self.is_style])
        if not found:
            return ()
        means = means_of(reader, [t.text for t in found], self.pulse)
        alike = torch.cosine_similarity(means - sample.centre, (own - sample.centre)[None])
        ranked = [(found[i], float(alike[i])) for i in alike.argsort(descending=True, stable=True).tolist()]
        form = self.recipe.form_alike
        near_ones = [t for t, alike in ranked if not (alike > form and may_be_form(t.text, target))]
        return tuple(near_ones[: self.recipe.near_words])

    def candidates(self, nearest: Sequence[Term]) -> list[Term]:
        """Terms that may be near: of the target's own category, and of those of the sample's nearest words.

        nearest: the sample's words of the target's kind, the nearest first.
        """
        own = self.vocabulary.find(self.moving[0])
        leading = [t for t in ((own,) if own else ()) if t.is_style == nearest[0].is_style] if nearest else []
        asked = dict.fromkeys((t.is_style, t.category) for t in (*leading, *nearest[:NEAREST]))
        found: dict[Term, None] = {}
        each = max(1, 2 * self.recipe.near_candidates // max(1, len(asked)))
        for style, category in asked:
            members = self.allowed.members(Term("", "style" if style else "thing", category))
            found |= dict.fromkeys(members[: 3 * each if not found else each])
        return list(dict.fromkeys([*(t for t in nearest[:NEAREST] if self._is_allowed(t)), *found]))[
            : self.recipe.near_candidates
        ]

    def _is_allowed(self, term: Term) -> bool:
        return not any(belongs_to(term.text, m) for m in self.moving) and self.allowed.find(term.text) is not None

    def in_both(self, terms: Sequence[Term]) -> list[str]:
        """All terms bare, and some of them, always the same, in a template."""
        return [*(t.text for t in terms), *self.prompts([t for t in terms if spelling(t) % IN_TEMPLATE == 0])]

    def prompts(self, terms: Sequence[Term]) -> list[str]:
        """A prompt of each term, in one of the list's templates of its kind, always the same one."""
        found = []
        for term in terms:
            templates = self.words.style_templates if term.is_style else self.words.object_templates
            found.append(fill(templates[spelling(term) % len(templates)], term.text, term.text))
        return found


def kept_words(host: HostModel) -> NoSavedWork:
    """Where what was read of the vocabulary is kept for the next request: where the host says, else nowhere."""
    folder: Path | None = getattr(host, "cache_folder", None)
    return SavedWork(folder, most=MOST_KEPT) if folder else NOTHING


def spelling(term: Term) -> int:
    """A number that depends on a term's letters alone."""
    return sum(map(ord, term.text))


def sampled(vocabulary: Vocabulary, count: int) -> tuple[Term, ...]:
    """Terms from all over the common part of a vocabulary, always the same."""
    return tuple(spread(vocabulary.terms[:COMMON], count, 0))


def means_of(reader: TextReader, prompts: Sequence[str], pulse: Callable[[], None] = lambda: None) -> Tensor:
    """The mean of each prompt's tokens, `[prompts, d]`, float32 on the CPU.

    It needs no place of a word in its prompt, which not every text encoder tells; what all prompts share falls out
    when means are compared about their centre.
    """
    watched = Watched(reader)
    for i in range(0, len(prompts), PROMPTS_AT_ONCE):
        watched.read(prompts[i : i + PROMPTS_AT_ONCE])
        pulse()
    return torch.cat(watched.means)


class Watched(TextReader):
    """A reader that keeps the means of all that it reads, `[prompts, d]` each time."""

    def __init__(self, reader: TextReader):
        super().__init__(reader.host, reader.paths)
        self._reader = reader
        self.means: list[Tensor] = []

    def read(self, prompts: Sequence[str]) -> Tokens:
        """The vectors of some prompts."""
        tokens = self._reader.read(prompts)
        self.means.append(tokens.values.float().sum(1).cpu() / torch.tensor(tokens.counts)[:, None])
        return tokens
