"""What the student has to go on drawing as before: replay prompts and how often each is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...words.prompts import Scene, scenes, spread
from ...words.word_list import WordList

SHARES = {"near": 0.35, "far": 0.4, "empty": 0.1, "erased": 0.2, "keep": 0.2}
"""How much of the replay each group gets, as far as the group exists."""
NEAR, FAR, ERASED = 8, 64, 48
"""Near concepts; far sentences; earlier forget prompts."""
SENTENCES = {"object": 4, "style": 8}
"""Sentences of a near concept, more where there are fewer than `NEAR`; a style has to stay on every object."""


@dataclass(frozen=True)
class Replay:
    """prompts that stay what they are; erased: pairs (prompt of an earlier target, what it draws now).

    weights: probability of each in a draw, the erased ones last, `[prompts + erased]`.
    """

    prompts: tuple[str, ...]
    erased: tuple[tuple[str, str], ...]
    weights: Tensor

    @classmethod
    def make(
        cls,
        words: WordList,
        kind: str,
        neighbours: Sequence[str],
        keep: Sequence[str],
        erased: Sequence[tuple[str, str]],
        seed: int,
    ) -> Replay:
        """Nearest concepts, far ones, the empty prompt, earlier forget prompts and the artist's own list.

        words: without the target and earlier targets. erased: forget prompts of earlier requests with their mappings.
        The empty prompt is there because under guidance g an error in it counts (1 - g) times.
        """
        near = list(neighbours[:NEAR])
        sentences = NEAR * SENTENCES[kind] // max(1, len(near))
        far = spread(words.all_objects, FAR, seed)
        groups = {
            "near": [s.prompt for w in near for s in scenes(words, w, kind, sentences, seed + 1)],
            "far": [s.prompt for w in far for s in scenes(words, w, "object", max(1, FAR // len(far)), seed + 2)],
            "empty": [""],
            "keep": [s.prompt for w in keep for s in of_kind(words, w, seed + 1)],
        }
        again = tuple(spread(erased, ERASED, seed))
        sizes = {name: len(members) for name, members in groups.items()} | {"erased": len(again)}
        total = sum(SHARES[name] for name, size in sizes.items() if size)
        weights = [SHARES[name] / total / size for name, size in sizes.items() for _ in range(size)]
        return cls(tuple(p for members in groups.values() for p in members), again, torch.tensor(weights))


def of_kind(words: WordList, concept: str, seed: int) -> list[Scene]:
    """Sentences of a concept, as many as its kind needs."""
    kind = words.kind(concept)
    return scenes(words, concept, kind, SENTENCES[kind], seed)
