"""What the student has to go on generating as before: replay prompts and how often each is used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...recipe import REPLAY_SHARES
from ...words.prompts import Scene, scenes, spread
from ..prompt_pairs import Pair
from ..request import Request


@dataclass(frozen=True)
class Replay:
    """prompts that stay what they are; erased: pairs (prompt of an earlier target, what it generates now).

    weights: probability of each in a draw, the erased ones last, `[prompts + erased]`.
    """

    prompts: tuple[str, ...]
    erased: tuple[Pair, ...]
    weights: Tensor

    @classmethod
    def make(cls, request: Request, neighbours: Sequence[str], erased: Sequence[Pair]) -> Replay:
        """Nearest concepts, far ones, the empty prompt, earlier forget prompts and the artist's own list.

        The empty prompt is there because under guidance g an error in it counts (1 - g) times.
        """
        words, recipe, kind, seed = request.rest, request.recipe, request.kind, request.config.seed
        near = list(neighbours[: recipe.replay_near])
        each = recipe.replay_near * recipe.replay_near_prompts // max(1, len(near))
        far = spread(words.all_objects, recipe.replay_far, seed)
        of_far = max(1, recipe.replay_far // max(1, len(far)))

        def of_kind(word: str) -> list[Scene]:
            kind = words.kind(word)
            return scenes(words, word, kind, request.recipes[kind].replay_near_prompts, seed + 1)

        groups = {
            "near": [s.prompt for w in near for s in scenes(words, w, kind, each, seed + 1)],
            "far": [s.prompt for w in far for s in scenes(words, w, "object", of_far, seed + 2)],
            "empty": [""],
            "keep": [s.prompt for w in request.config.keep for s in of_kind(w)],
        }
        again = tuple(spread(erased, recipe.replay_erased, seed))
        sizes = {name: len(members) for name, members in groups.items()} | {"erased": len(again)}
        total = sum(REPLAY_SHARES[name] for name, size in sizes.items() if size)
        weights = [REPLAY_SHARES[name] / total / size for name, size in sizes.items() for _ in range(size)]
        return cls(tuple(p for members in groups.values() for p in members), again, torch.tensor(weights))
