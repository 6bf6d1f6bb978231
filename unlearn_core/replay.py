"""What the student has to go on drawing as before: replay prompts and how often each is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .prompts import Scene, WordList, scenes, spread

SHARES = {"near": 0.35, "far": 0.4, "empty": 0.1, "erased": 0.2, "keep": 0.2}
"""How much of the replay each group gets, as far as the group exists."""
NEAR, FAR, ERASED = 8, 64, 16
"""Near concepts; far sentences; earlier forget prompts."""
SENTENCES = {"object": 4, "style": 8}
"""Sentences of a near concept, more where there are fewer than `NEAR`; a style has to stay on every object."""


@dataclass(frozen=True)
class Replay:
    """prompts, and the probability of each in a draw, `[prompts]`; the last `erased` ones are of earlier targets."""

    prompts: tuple[str, ...]
    weights: Tensor
    erased: int

    @classmethod
    def make(
        cls,
        words: WordList,
        kind: str,
        neighbours: Sequence[str],
        keep: Sequence[str],
        erased: Sequence[str],
        seed: int,
    ) -> Replay:
        """Nearest concepts, far ones, the empty prompt, earlier forget prompts and the artist's own list.

        words: without the target and earlier targets. erased: forget prompts of earlier requests.
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
            "erased": spread(list(erased), ERASED, seed),
        }
        total = sum(SHARES[name] for name, prompts in groups.items() if prompts)
        weights = [SHARES[name] / total / len(prompts) for name, prompts in groups.items() for _ in prompts]
        prompts = tuple(p for members in groups.values() for p in members)
        return cls(prompts, torch.tensor(weights), len(groups["erased"]))


def of_kind(words: WordList, concept: str, seed: int) -> list[Scene]:
    """Sentences of a concept, as many as its kind needs."""
    kind = words.kind(concept)
    return scenes(words, concept, kind, SENTENCES[kind], seed)
