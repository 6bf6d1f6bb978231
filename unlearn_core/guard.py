"""What a delta must not move in text space: the tokens of everything that is to be kept, drawn or not.

Replay needs the teacher's pictures and can cover some dozens of sentences. Words alone cost nothing, so the guard
takes the token vectors of hundreds of sentences, from the checkpoint's word list and the general one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .interfaces import HostModel
from .lora import Adapters
from .prompts import WordList, names, scenes
from .subspace import kept_change, second_moment

SENTENCES = 3
"""Sentences a word."""


def kept_tokens(host: HostModel, lists: Sequence[WordList], moving: Sequence[str], seed: int) -> Tensor:
    """Token vectors `[sentences, n, d]` of all words of the lists and of nothing at all.

    moving: concepts whose sentences are to change; they are left out.
    """
    texts = [""]
    for words in lists:
        rest = words.without(moving)
        for word in (*rest.all_objects, *rest.styles):
            texts += [s.prompt for s in scenes(rest, word, rest.kind(word), SENTENCES, seed)]
    kept = [t for t in dict.fromkeys(texts) if not any(names(t, m) for m in moving)]
    return torch.cat([host.encode(kept[i : i + 64]).tokens for i in range(0, len(kept), 64)])


def guarded(path: str) -> bool:
    """Whether a layer reads text tokens as they are; a stream for text (Flux) has mixed them with the picture."""
    return path.endswith(("attn2.to_k", "attn2.to_v"))


@dataclass(frozen=True)
class TextGuard:
    """The kept tokens' second moment and each guarded layer's own answer to them.

    moment: `[d, d]`. answers: {path: E || W c ||^2} of the layers that read text.
    """

    moment: Tensor
    answers: dict[str, float]

    @classmethod
    def make(cls, adapters: Adapters, tokens: Tensor) -> TextGuard:
        """Guard all adapted layers whose input has the width of the tokens `[m, n, d]` and is text."""
        moment = second_moment(tokens)
        answers = {}
        for path in adapters.factors:
            weight = adapters.weight(path)
            if guarded(path) and weight.shape[1] == len(moment):
                w = weight.double().cpu()
                answers[path] = float(((w @ moment) * w).sum())
        return cls(moment.float().to(tokens.device), answers)

    def penalty(self, adapters: Adapters) -> Tensor:
        """Mean relative change of the guarded layers' answers to kept tokens: E||BAc||^2 / E||Wc||^2, no unit."""
        changes = [kept_change(*adapters.factors[path], self.moment) / a for path, a in self.answers.items()]
        return torch.stack(changes).mean()
