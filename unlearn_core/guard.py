"""What a delta must not move in text space: the tokens of everything that is to be kept, drawn or not.

Replay needs the teacher's pictures and can cover some dozens of sentences. Words alone cost nothing, so the guard
takes the token vectors of hundreds of sentences, from the checkpoint's word list and the general one. Kept ones are
held where the base model has them, so that the small errors of many deltas do not add up; those of earlier targets
where the stack has put them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .interfaces import HostModel
from .lora import Adapters
from .prompts import WordList, names, scenes
from .subspace import Moment, kept_change, second_moment

SENTENCES, INSISTED = (3, 12), 24
"""Fewest and most sentences a word, and those of a word that the artist wants to keep."""
LISTED = 400
"""Sentences a list between those bounds: few words meet each other in more of them."""
AT_ONCE = 64
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
    for i in range(0, len(prompts), AT_ONCE):
        tokens, some = host.encode(prompts[i : i + AT_ONCE]).tokens, weights[i : i + AT_ONCE]
        if some:
            tokens = tokens * torch.tensor(some).to(tokens).sqrt()[:, None, None]
        total = total + second_moment(tokens) * len(tokens)
        pulse()
    return Moment(total / (sum(weights) or len(prompts)), len(prompts))


def tokens_of(host: HostModel, prompts: Sequence[str]) -> Tensor:
    """Token vectors `[prompts, n, d]`."""
    return torch.cat([host.encode(prompts[i : i + AT_ONCE]).tokens for i in range(0, len(prompts), AT_ONCE)])


def guarded(path: str) -> bool:
    """Whether a layer reads text tokens as they are; a stream for text (Flux) has mixed them with the picture."""
    return path.endswith(("attn2.to_k", "attn2.to_v"))


@dataclass(frozen=True)
class TextGuard:
    """Second moments of the tokens to hold, `[d, d]`, each in its share of all, and what the layers answer to them.

    kept: tokens of what nobody wants gone; all: those of earlier targets too. answers: {path: E || W c ||^2} of the
    layers that read text. moved: {path: (D `[out, d]`, E || D k ||^2)} where the stack has added D.
    """

    kept: Tensor
    all: Tensor
    answers: dict[str, float]
    moved: dict[str, tuple[Tensor, Tensor]]

    @classmethod
    def make(
        cls,
        adapters: Adapters,
        kept: Moment,
        erased: Moment | None = None,
        earlier: Mapping[str, Tensor] = {},
    ) -> TextGuard:
        """Guard all adapted layers whose input has the width of the tokens and is text.

        earlier: {path: all that the stack adds `[out, d]`}, held as it is.
        """
        both = kept if erased is None else kept + erased
        share, moment = kept.value * (kept.sentences / both.sentences), both.value
        answers = {}
        for path in adapters.factors:
            weight = adapters.weight(path)
            if guarded(path) and weight.shape[1] == len(moment):
                w = weight.cpu().double()
                answers[path] = float(((w @ moment) * w).sum())
        share, moment = (m.float().to(adapters.parameters()[0].device) for m in (share, moment))
        moved = {p: (d, ((d.float() @ share) * d.float()).sum()) for p, d in earlier.items() if p in answers}
        return cls(share, moment, answers, moved)

    def penalty(self, adapters: Adapters) -> Tensor:
        """Mean relative change of the guarded layers' answers, no unit: (E||(D + BA) k||^2 + E||BA e||^2) / E||Wc||^2

        over kept tokens k and erased ones e, D being all that the stack has added. Multiplied out, so that BA is never
        formed: E||BAc||^2 over all tokens + 2 tr(D S (BA)^T) + E||Dk||^2, S = E[k k^T].
        """
        total, still = 0.0, [p for p in self.answers if p not in self.moved]
        for paths, down, up in (*adapters.alike(self.moved), *adapters.alike(still)):
            change = kept_change(down, up, self.all)
            if paths[0] in self.moved:
                added, before = zip(*(self.moved[p] for p in paths), strict=True)
                ways = self.kept @ down.mT
                crossed = [(a.float() @ way * b).sum() for a, way, b in zip(added, ways, up, strict=True)]
                change = change + 2 * torch.stack(crossed) + torch.stack(before)
            total = total + (change / torch.tensor([self.answers[p] for p in paths]).to(down)).sum()
        return total / len(self.answers)
