"""What words feel that no list names, in the text space of a real sentence encoder: the product's own algebra.

Twelve targets are led to their anchors by rank-8 edits of random matrices. Some 250 nouns are in no list and taken out
of the vocabulary. What an edit moves at a noun's last token, as a part of the target's whole way, is compared between
ways to preserve, each scaled so that the target itself goes 80 % of its way.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from unlearn_core.method.closed_form import Edit, moments
from unlearn_core.method.open_words import OpenWords, Sample
from unlearn_core.method.preserved import PreservedPrompts
from unlearn_core.method.prompt_pairs import of_forms
from unlearn_core.method.text_reader import TextReader, Tokens
from unlearn_core.method.token_moments import Moment, moment_of
from unlearn_core.recipe import OBJECT
from unlearn_core.words.compare import share_a_word
from unlearn_core.words.plurals import plural
from unlearn_core.words.prompts import mapped, scenes
from unlearn_core.words.vocabulary import Term, Vocabulary, bundled
from unlearn_core.words.word_list import WordList

TARGETS = (
    *("banana", "cat", "guitar", "castle", "bicycle", "penguin"),
    *("hamburger", "rose", "astronaut", "wolf", "teapot", "airplane"),
)
UNLISTED, NEAR_EACH, COMMON = 257, 4, 1600
"""Nouns that no list has, how many of them are of each target's category, and among how many common ones they are."""
GOES, RANK, SIDE = 0.8, 8, 1280
"""Part of its way that each target goes, the rank of an edit, and rows of the random matrix."""
NEAREST = 6
NULL_SPACE = 96
"""Directions of what is preserved that DP's edit must not read."""
SEED = 0


class SentenceReader(TextReader):
    """Reads prompts as a sentence encoder does, token by token; what it has read it remembers."""

    pooled, paths = False, ("matrix",)

    def __init__(self, folder: Path):
        from transformers import AutoModel, AutoTokenizer

        self.host = self  # type: ignore[assignment]
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._network = AutoModel.from_pretrained(folder, local_files_only=True).eval()
        self._known: dict[str, Tensor] = {}

    def token_ids(self, prompt: str) -> list[list[int]]:
        """By its one tokenizer."""
        return [self._tokenizer(prompt).input_ids]

    @torch.no_grad()
    def read(self, prompts: Sequence[str]) -> Tokens:
        """The vectors of some prompts."""
        missing = [p for p in dict.fromkeys(prompts) if p not in self._known]
        for i in range(0, len(missing), 64):
            part = missing[i : i + 64]
            given = self._tokenizer(part, return_tensors="pt", padding=True, truncation=True)
            states = self._network(**given).last_hidden_state
            for prompt, row, mask in zip(part, states, given["attention_mask"], strict=True):
                self._known[prompt] = row[: int(mask.sum())].clone()
        rows = [self._known[p] for p in prompts]
        return Tokens(torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), tuple(map(len, rows)))

    def at_words(self, words: Sequence[str]) -> Tensor:
        """The last token of each word in "a photo of a WORD", float64 `[words, d]`."""
        read = self.read([f"a photo of a {word}" for word in words])
        return torch.stack([row[n - 2] for row, n in zip(read.values, read.counts, strict=True)]).double()

    def is_whole(self, word: str) -> bool:
        """Whether the encoder has an entry for a word."""
        return len(self.token_ids(word)[0]) == 3


@dataclass(frozen=True)
class Bed:
    """The encoder, the words that nobody names, the vocabulary without them, and the matrix that is edited."""

    reader: SentenceReader
    general: WordList
    unlisted: tuple[str, ...]
    vocabulary: Vocabulary
    matrix: Tensor

    @classmethod
    def make(cls, folder: Path) -> Bed:
        """From the folder of an encoder that `transformers` reads."""
        reader, general, whole = SentenceReader(folder), WordList.load(None), bundled()
        unlisted = chosen(reader, general, whole)
        matrix = torch.randn(SIDE, reader.at_words(["cat"]).shape[1], generator=torch.Generator().manual_seed(SEED + 1))
        return cls(reader, general, unlisted, whole.without(unlisted), matrix.double())


def chosen(reader: SentenceReader, general: WordList, vocabulary: Vocabulary) -> tuple[str, ...]:
    """Common nouns of one token that the general list does not have, some of each target's own category."""
    kinds = {"thing", "animal", "food", "plant"}
    rest = vocabulary.without([*general.all_objects, *TARGETS]).terms
    pool = [t.text for t in rest if t.kind in kinds and t.text.islower() and " " not in t.text]
    free = list(islice((word for word in pool if reader.is_whole(word)), COMMON))
    near: dict[str, None] = {}
    for target in TARGETS:
        own = {t.text for t in vocabulary.category(target)}
        near |= dict.fromkeys([word for word in free if word in own][: 2 * NEAR_EACH : 2])
    others = [word for word in free if word not in near]
    return (*near, *random.Random(SEED).sample(others, UNLISTED - len(near)))


@dataclass(frozen=True)
class Case:
    """One target: its moments, without and with its plural's prompts, what the lists preserve, and what is near it.

    asked: the terms that were compared with it. near: those of them that are nearest.
    """

    bed: Bed
    target: str
    anchor: str
    moments: tuple[Tensor, Tensor]
    with_plural: tuple[Tensor, Tensor]
    listed: Moment
    open: OpenWords
    sample: Sample
    asked: tuple[Term, ...]
    near: tuple[Term, ...]

    @classmethod
    def make(cls, bed: Bed, target: str) -> Case:
        """As a run would read it."""
        reader, words = bed.reader, bed.general
        rivals = [r for r in words.without([target]).all_objects if reader.is_whole(r) and not share_a_word(r, target)]
        anchor = rivals[int(alike(bed, reader.at_words(rivals), target).argmax())]
        prompts = scenes(words, target, "object", OBJECT.target_prompts, SEED)
        pairs = [(s.prompt, mapped(s, anchor, "object", words).prompt) for s in prompts]
        several = of_forms((plural(target),), anchor, words, OBJECT.form_prompts)
        alone, both = (moments(reader, part, [0.0] * len(part)) for part in (pairs, [*pairs, *several]))
        assert alone is not None and both is not None
        listed = PreservedPrompts([words], [target], SEED).moment(reader)
        allowed = bed.vocabulary.without([target])
        opened = OpenWords(bed.vocabulary, allowed, (target,), False, (), words, replace(OBJECT, near_words=1000))
        sample = opened.sample(reader)
        near = opened.neighbours(reader, sample)
        return cls(bed, target, anchor, alone, both, listed, opened, sample, near, near[: OBJECT.near_words])

    def wider(self, words: int, candidates: int) -> Case:
        """The same case with more of the vocabulary read, or less."""
        recipe = replace(self.open.recipe, open_words=words, near_candidates=candidates)
        opened = replace(self.open, recipe=recipe)
        sample = opened.sample(self.bed.reader)
        near = opened.neighbours(self.bed.reader, sample)
        return replace(self, open=opened, sample=sample, asked=near, near=near[: OBJECT.near_words])

    def edit(self, preserved: Tensor, scale: float) -> Tensor:
        """The change of the matrix that the closed form makes, `[rows, d]`."""
        made = Edit(self.moments, None, preserved, OBJECT)
        ((_, down, up),) = made.factors({"matrix": self.bed.matrix}, {}, RANK, (scale, 0.0))
        return (up @ down).double()


def alike(bed: Bed, tokens: Tensor, target: str) -> Tensor:
    """Cosines of tokens with the target's, about the mean of all nouns."""
    centre = bed.reader.at_words(bed.unlisted).mean(0)
    own = bed.reader.at_words([target]) - centre
    return torch.cosine_similarity(tokens - centre, own)


def measured(case: Case, change: Tensor) -> dict[str, float]:
    """What a change moves, scaled so that the target goes `GOES` of its way."""
    bed, reader = case.bed, case.bed.reader
    own, goal = reader.at_words([case.target, case.anchor])
    way = bed.matrix @ (goal - own)
    goes = float((change @ own) @ way / way.norm() ** 2)
    change = change * (GOES / goes)
    nouns = reader.at_words(bed.unlisted)
    order = alike(bed, nouns, case.target).argsort(descending=True)[:NEAREST]

    def moved(tokens: Tensor) -> Tensor:
        return (tokens @ change.T).norm(dim=1) / way.norm()

    all_moved, listed = moved(nouns), moved(reader.at_words([w for w in bed.general.all_objects if w != case.target]))
    (several,) = reader.read([f"two {plural(case.target)}"]).values[:, -2:-1].double()
    return {
        "goes": goes,
        "near": float(all_moved[order].mean()),
        "worst": float(all_moved[order].max()),
        "all": float(all_moved.mean()),
        "listed": float(listed.mean()),
        "plural": float((several[0] @ change.T) @ way / way.norm() ** 2),
    }


def mixed(*parts: tuple[float, Tensor]) -> Tensor:
    """A weighted mean of moments."""
    total = sum(weight for weight, _ in parts)
    return sum((value * (weight / total) for weight, value in parts), start=torch.zeros(()).double())


Way = Callable[[Case], Tensor]
"""From a case to the change of its matrix."""


def ours(near: float, words: float, count: int = OBJECT.near_words, scale: float = OBJECT.tries[0][0]) -> Way:
    """The lists, the vocabulary's sample with the weight `words`, and `count` neighbours with the weight `near`."""
    return lambda case: case.edit(preserved(case, near, words, case.asked[:count]), scale)


def preserved(case: Case, near: float, words: float, neighbours: Sequence[Term]) -> Tensor:
    """The moment of what is held."""
    parts = [(1 - near - words, case.listed.value)]
    if words:
        parts.append((words, case.open.rest(case.bed.reader, case.sample).value))
    if near:
        parts.append((near, moment_of(case.bed.reader, case.open.prompts(neighbours)).value))
    return mixed(*parts)


def whole(case: Case) -> Tensor:
    """What a run does: the target's plural is among its prompts."""
    return replace(case, moments=case.with_plural).edit(held(case), OBJECT.tries[0][0])


def held(case: Case) -> Tensor:
    """What a run preserves."""
    return preserved(case, OBJECT.near_weight, OBJECT.open_weight, case.near)


def most_moved(count: int, nearest: int) -> Way:
    """Neighbours are those that a first solve moves most, beside some nearest ones."""

    def change(case: Case) -> Tensor:
        first = case.edit(preserved(case, 0.0, 0.5, ()), OBJECT.tries[0][0])
        sizes = sizes_of(case, first, case.open.prompts(case.asked))
        order = sorted(range(len(sizes)), key=lambda i: -sizes[i])[:count]
        found = dict.fromkeys([*case.asked[:nearest], *(case.asked[i] for i in order)])
        return case.edit(preserved(case, OBJECT.near_weight, OBJECT.open_weight, tuple(found)), OBJECT.tries[0][0])

    return change


def sizes_of(case: Case, change: Tensor, prompts: Sequence[str]) -> list[float]:
    """How much a change moves the tokens of each prompt, squared."""
    return [float((case.bed.reader.read([p]).values[0].double() @ change.T).square().sum()) for p in prompts]


def unconstrained(case: Case) -> Tensor:
    """Nothing is preserved."""
    return case.edit(torch.zeros_like(case.listed.value), 1.0)


def named(case: Case) -> Tensor:
    """The bound: the nouns themselves are neighbours."""
    words = [f"a photo of a {word}" for word in case.bed.unlisted]
    near = moment_of(case.bed.reader, words).value
    return case.edit(mixed((0.5, case.listed.value), (0.5, near)), OBJECT.tries[0][0])


def speed(case: Case) -> Tensor:
    """SPEED (arXiv 2503.07392): of all words those are held that the unconstrained edit moves more than their mean."""
    reader, free = case.bed.reader, unconstrained(case)
    terms = list(dict.fromkeys([*case.near, *(t for t in case.sample.terms if case.open.allowed.find(t.text))]))
    listed = [w for w in case.bed.general.all_objects if w != case.target]
    prompts = [*case.open.prompts(terms), *(f"a photo of a {w}" for w in listed)]
    size = sizes_of(case, free, prompts)
    most = sum(size) / len(size)
    held = [p for p, s in zip(prompts, size, strict=True) if s > most]
    return case.edit(moment_of(reader, held).value, OBJECT.tries[0][0])


def null_space(case: Case) -> Tensor:
    """DP (arXiv 2604.10032): the edit reads nothing of the directions in which what is preserved mostly lies."""
    _, ways = torch.linalg.eigh(preserved(case, 0.0, 0.5, ()))
    held = ways[:, -NULL_SPACE:]
    free = torch.eye(len(ways), dtype=torch.double) - held @ held.T
    cross, gram = case.moments
    bare = replace(case, moments=(cross @ free, free @ gram @ free))
    return bare.edit(torch.zeros_like(ways), 1.0) @ free


def invariant(case: Case) -> Tensor:
    """CEASE (arXiv 2610.01989): beside the lists the stand-in's own token is held, as firmly as a quarter of all."""
    own = moment_of(case.bed.reader, [f"a photo of a {case.anchor}", case.anchor]).value
    return case.edit(mixed((0.75, case.listed.value), (0.25, own)), OBJECT.tries[0][0])


WAYS: Mapping[str, Way] = {
    "nothing": unconstrained,
    "the lists": ours(0.0, 0.0),
    "the lists and the stand-in (CEASE)": invariant,
    "the most moved words alone (SPEED)": speed,
    "null space of lists and vocabulary (DP)": null_space,
    "the lists and the vocabulary": ours(0.0, 0.5),
    "the lists and the neighbours": ours(0.5, 0.0),
    "all three": ours(OBJECT.near_weight, OBJECT.open_weight),
    "all three, and the plural's own prompts (ours)": whole,
    "all three, 25 neighbours": ours(OBJECT.near_weight, OBJECT.open_weight, 25),
    "all three, 100 neighbours": ours(OBJECT.near_weight, OBJECT.open_weight, 100),
    "all three, neighbours weigh 0.5": ours(0.5, OBJECT.open_weight),
    "all three, a preserve scale of 10": ours(OBJECT.near_weight, OBJECT.open_weight, scale=10.0),
    "all three, a preserve scale of 100": ours(OBJECT.near_weight, OBJECT.open_weight, scale=100.0),
    "all three, 200 words read and 300 compared": lambda case: whole(case.wider(200, 300)),
    "all three, 600 words read and 1,000 compared": lambda case: whole(case.wider(600, 1000)),
    "all three, 2,000 words read and 2,000 compared": lambda case: whole(case.wider(2000, 2000)),
    "all three, the 50 most moved": most_moved(50, 0),
    "all three, the 25 nearest and the 25 most moved": most_moved(25, 25),
    "the nouns themselves named (the bound)": named,
}


def rows(folder: Path) -> Iterator[dict]:
    """One row a way to preserve: means over the targets."""
    bed = Bed.make(folder)
    cases = [Case.make(bed, target) for target in TARGETS]
    for name, way in WAYS.items():
        found = [measured(case, way(case)) for case in cases]
        yield {"preserved": name} | {key: round(sum(f[key] for f in found) / len(found), 4) for key in found[0]}
