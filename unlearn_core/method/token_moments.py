"""What a delta must not move in text space: the tokens of everything that is to be kept, drawn or not.

Replay needs the teacher's pictures and can cover some dozens of sentences. Words alone cost nothing, so the guard
takes the token vectors of hundreds of sentences, from the checkpoint's word list and the general one. Kept ones are
held where the base model has them, so that the small errors of many deltas do not add up; those of earlier targets
where the stack has put them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..host import HostModel
from ..words.prompts import names, scenes
from ..words.word_list import WordList

SENTENCES, INSISTED = (3, 12), 24
"""Fewest and most sentences a word, and those of a word that the artist wants to keep."""
LISTED = 400
"""Sentences a list between those bounds: few words meet each other in more of them."""
PROMPTS_AT_ONCE = 64
"""Sentences whose tokens are asked for at once."""


def kept_sentences(
    lists: Sequence[WordList], moving: Sequence[str], seed: int, keep: Sequence[str] = ()
) -> dict[str, float]:
    """{sentence: its weight} of all words of the lists, of the artist's own and of nothing at all.

    All words of the lists weigh the same, whatever the number of their sentences; each of the artist's weighs 1.
    moving: concepts whose sentences change or have changed; they are left out.
    """
    own = lists[0].without(moving)
    texts = ["", *(s.prompt for word in keep for s in scenes(own, word, own.kind(word), INSISTED, seed + 1))]
    weights = dict.fromkeys(texts, 1.0)
    few, many = SENTENCES
    for words in lists:
        rest = words.without(moving)
        held = (*rest.all_objects, *rest.styles)
        each = max(few, min(many, LISTED // max(1, len(held))))
        for word in held:
            made = scenes(rest, word, rest.kind(word), each, seed)
            for scene in made:
                weights.setdefault(scene.prompt, few / len(made))
    return {t: w for t, w in weights.items() if not any(names(t, m) for m in moving)}


def kept_moment(
    host: HostModel,
    lists: Sequence[WordList],
    moving: Sequence[str],
    seed: int,
    keep: Sequence[str] = (),
    pulse: Callable[[], None] = lambda: None,
) -> Moment:
    """Of the tokens of `kept_sentences`, by their weights."""
    weights = kept_sentences(lists, moving, seed, keep)
    return moment_of(host, list(weights), list(weights.values()), pulse)


def moment_of(
    host: HostModel,
    prompts: Sequence[str],
    weights: Sequence[float] = (),
    pulse: Callable[[], None] = lambda: None,
) -> Moment:
    """Of the prompts' tokens, a part of them in memory at a time: for SDXL all would take half a gigabyte and more.

    weights: relative ones of the prompts; all the same where they are left out.
    """
    total = 0.0
    for i in range(0, len(prompts), PROMPTS_AT_ONCE):
        tokens, some = host.encode(prompts[i : i + PROMPTS_AT_ONCE]).tokens, weights[i : i + PROMPTS_AT_ONCE]
        if some:
            tokens = tokens * torch.tensor(some).to(tokens).sqrt()[:, None, None]
        total = total + second_moment(tokens) * len(tokens)
        pulse()
    return Moment(total / (sum(weights) or len(prompts)), len(prompts))


def tokens_of(host: HostModel, prompts: Sequence[str]) -> Tensor:
    """Token vectors `[prompts, n, d]`."""
    return torch.cat(
        [host.encode(prompts[i : i + PROMPTS_AT_ONCE]).tokens for i in range(0, len(prompts), PROMPTS_AT_ONCE)]
    )


AT_ONCE = 1024
"""Token vectors that are copied to float64 at once: all of them would take a gigabyte in the text space of SDXL."""


def second_moment(tokens: Tensor) -> Tensor:
    """E[c c^T] over token vectors `[..., d]`, float64 `[d, d]`, on the CPU."""
    return sum(part.T @ part for (part,) in pieces(tokens)).cpu() / tokens[..., 0].numel()


def pieces(*tokens: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Token vectors `[..., d]` as float64 `[AT_ONCE, d]`, those of several tensors of one shape side by side."""
    flat = (t.flatten(0, -2).split(AT_ONCE) for t in tokens)
    yield from (tuple(map(exact, parts)) for parts in zip(*flat, strict=True))


@dataclass(frozen=True)
class Moment:
    """All that a method asks of many sentences: E[c c^T] over their tokens c, float64 `[d, d]`, and their number."""

    value: Tensor
    sentences: int

    @classmethod
    def of(cls, tokens: Tensor) -> Moment:
        """Of tokens `[sentences, n, d]`."""
        return cls(second_moment(tokens), len(tokens))

    def __add__(self, other: Moment) -> Moment:
        both = self.sentences + other.sentences
        return Moment((self.value * self.sentences + other.value * other.sentences) / both, both)


def exact(values: Tensor) -> Tensor:
    """float64, on the CPU where the device has none (MPS, some of Intel's)."""
    return values.double() if values.is_cuda else values.cpu().double()
