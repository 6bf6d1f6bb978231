"""Which token of a prompt stands in the place of which one in what the prompt is mapped onto."""

from __future__ import annotations

from collections.abc import Sequence
from os.path import commonprefix

import torch
from torch import Tensor

from .prompt_pairs import Pair
from .text_reader import TextReader, Tokens

SAME = 1e-3
"""Tokens of two prompts count as equal when they differ by less than this part of their size."""
SIDES = " red", " two"
"""What is put after a beginning, the first or, where the text itself goes on so, the second."""


def counterparts(reader: TextReader, pairs: Sequence[Pair], tokens: Tokens, mapped: Tokens) -> Tensor | None:
    """For each token of a prompt the number of the one in its place in what it is mapped onto, `[pairs, n]`.

    tokens, mapped: of the prompts and of what they are mapped onto. Words of different length shift all that follows
    them. None where there is no telling where a word ends: neither by the tokens, as with a text encoder whose tokens
    depend on what comes after them, nor by their numbers, which not every host tells.
    """
    if reader.pooled:
        return torch.zeros(len(pairs), 1, dtype=torch.long)
    both = by_tokens(reader, pairs, tokens, mapped) or by_numbers(reader, pairs, (tokens, mapped))
    if both is None:
        return None
    length, rows = tokens.values.shape[1], []
    for ours, theirs, most in zip(*both, mapped.counts, strict=True):
        inside = [min(i, theirs - 1) for i in range(ours - 1)] + [theirs - 1]
        rows.append((inside + [min(i - ours + theirs, most - 1) for i in range(ours, length)])[:length])
    return torch.tensor(rows)


def by_tokens(
    reader: TextReader, pairs: Sequence[Pair], tokens: Tokens, mapped: Tokens
) -> tuple[list[int], list[int]] | None:
    """Where the words that differ end on both sides, seen from the tokens themselves."""
    if len({*tokens.counts, *mapped.counts}) > 1:
        return None
    heads = [cut(*pair) for pair in pairs]
    texts = ([(pair[side], head[side]) for pair, head in zip(pairs, heads, strict=True)] for side in (0, 1))
    ours, theirs = (ends(reader, one, seen.values) for one, seen in zip(texts, (tokens, mapped), strict=True))
    return None if ours is None or theirs is None else (ours, theirs)


def ends(reader: TextReader, texts: Sequence[Pair], tokens: Tensor) -> list[int] | None:
    """Where the beginning of each text ends: the first token that is another one when something else follows.

    texts: (text, its beginning). tokens: of the texts, `[texts, n, d]`. None when the first token is already another,
    or when the prompts are not equally long.
    """
    others = [head + next(w for w in SIDES if not text[len(head) :].startswith(w)) for text, head in texts]
    once = list(dict.fromkeys(others))
    other = reader.read(once).values[[once.index(o) for o in others]]
    if other.shape != tokens.shape:
        return None
    differ = (tokens - other).abs().amax(-1) > SAME * tokens.square().mean().sqrt()
    if differ[:, 0].any():
        return None
    # longer than what the encoder reads: no difference is seen
    return torch.cat([differ, torch.ones_like(differ[:, :1])], 1).int().argmax(1).tolist()


def by_numbers(
    reader: TextReader, pairs: Sequence[Pair], tokens: tuple[Tokens, Tokens]
) -> tuple[list[int], list[int]] | None:
    """Where the words that differ end on both sides, by the numbers that the text encoder's vocabulary gives them."""
    numbers = getattr(reader.host, "token_ids", None)
    if numbers is None:
        return None
    counts = [count for seen in tokens for count in seen.counts]
    ids = fitting([numbers(text) for side in zip(*pairs, strict=True) for text in side], counts)
    if ids is None:
        return None
    ours, theirs = zip(*map(ends_of, ids[: len(pairs)], ids[len(pairs) :]), strict=True)
    return list(ours), list(theirs)


def fitting(candidates: Sequence[Sequence[list[int]]], counts: Sequence[int]) -> list[list[int]] | None:
    """The numbers of the tokens that the layers read: as many, or, where a template's beginning is left out, more.

    candidates: for each prompt its numbers by each of the same tokenizers, of which one fits all prompts; counts: of
    the tokens that each prompt has for the layers.
    """
    kinds = [list(kind) for kind in zip(*candidates, strict=False)]
    for left_out in (False, True):
        for kind in kinds:
            over = [len(ids) - count for ids, count in zip(kind, counts, strict=True)]
            if min(over) >= 0 and (left_out or not any(over)):
                return [ids[more:] for ids, more in zip(kind, over, strict=True)]
    return None


def ends_of(ours: list[int], theirs: list[int]) -> tuple[int, int]:
    """The first token behind the last one that differs, on both sides; padding is left out of the comparison."""
    short = [without_padding(ids) for ids in (ours, theirs)]
    same = len(commonprefix([short[0][::-1], short[1][::-1]]))
    first = len(commonprefix(short))
    same = min(same, *(len(ids) - first for ids in short))
    return max(1, len(short[0]) - same), max(1, len(short[1]) - same)


def without_padding(ids: list[int]) -> list[int]:
    """Token numbers up to the first of those that repeat until the end."""
    last = len(ids)
    while last > 1 and ids[last - 1] == ids[last - 2]:
        last -= 1
    return ids[:last]


def cut(prompt: str, mapped: str) -> Pair:
    """Both prompts up to the last word in which they differ."""
    ours, theirs = prompt.split(" "), mapped.split(" ")
    same = len(commonprefix([ours[::-1], theirs[::-1]]))
    return " ".join(ours[: len(ours) - same]), " ".join(theirs[: len(theirs) - same])
