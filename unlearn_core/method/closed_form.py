"""The edit that forgets at once: layers that read text answer to the target's words as they do to its replacement's.

With W the base model's matrix, D what the stack has added to it and Q the new change, over tokens t of the target,
e of earlier targets and k of everything that stays, m(.) being what is drawn instead:

    E||(D + Q) t - (1 + o) W (m(t) - t)||^2 + f/3 E||(D + Q) e - (1 + o) W (m(e) - e)||^2
      + f E||(D + Q) k||^2 + l ||Q||^2  ->  min

The algebra of UCE (Gandikota et al. 2023, arXiv 2308.14761, eq. 7), asked for the whole stack each time, so that what
earlier deltas have left undone or harmed is mended and does not add up. Without a bound on its rank the answer is

    Q = (W C - D S) (S + l I)^-1,   C = (1 + o) (E[(m(t) - t) t^T] + f/3 E[(m(e) - e) e^T]),
    S = E[t t^T] + f/3 E[e e^T] + f E[k k^T]

and the best one of rank r is its truncated singular value decomposition in the metric S + l I (Eckart and Young). The
firmness f, with which the rest is held, is the largest of a few at which the judge no longer finds the target. The
overshoot o leads past the replacement, where a finite f would stop short of it; earlier targets have one of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os.path import commonprefix

import torch
from torch import Tensor

from ..host import HostModel
from ..progress import Tracker
from .adapters import Adapters
from .text_layers import guarded
from .token_moments import Moment, pieces, tokens_of

TRIES = ((30.0, 0.0), (30.0, 0.25), (10.0, 0.25), (3.0, 0.5))
"""(firmness f, overshoot on top of the kind's), tried in this order until the target is gone."""
SENTENCES = {"object": 96, "style": 128}
"""Sentences of the target: words alone, so many cost little."""
KNOWN = 2000
"""Most sentences of earlier targets, so that a request costs the same however many came before."""
PAST, PAST_EARLIER = {"object": 0.05, "style": 0.5}, {"object": 0.0, "style": 0.25}
"""Overshoot of a target and of earlier ones, as a part of the way to the replacement's answer.

Held firmly, a target stops short of its replacement, and what is left of a style shows in everything. Of earlier ones
the stack has taken most.
"""
ERASED = 1 / 3
"""What the words of earlier targets weigh of those that stay."""
RIDGE = 1e-3
"""l, as a part of the mean square of the target's tokens."""
SAME = 1e-3
"""Tokens of two sentences count as equal when they differ by less than this part of their size."""
AT_ONCE = 64
"""Sentences whose tokens are in memory at once."""
SIDES = " red", " two"
"""What is put after a beginning, the first or, where the text itself goes on so, the second."""
Pair = tuple[str, str]
"""A sentence and what is drawn for it."""


@dataclass(frozen=True)
class Edit:
    """Second moments of a request, float64 `[d, d]`.

    target, erased: (E[(m(c) - c) c^T], E[c c^T]) of their tokens c, for erased ones with their overshoot; kept:
    E[k k^T]; ridge: l.
    """

    target: tuple[Tensor, Tensor]
    erased: tuple[Tensor, Tensor] | None
    kept: Tensor
    ridge: float

    @classmethod
    def make(
        cls,
        host: HostModel,
        target: Sequence[Pair],
        erased: Sequence[tuple[Pair, str]],
        kept: Moment,
        pulse: Callable[[], None] = lambda: None,
    ) -> Edit | None:
        """From sentences of the target, those of earlier targets with their kinds, and of what is kept.

        None where tokens have no counterparts (see `counterparts`).
        """
        both = [moments(host, target, [0.0] * len(target), pulse)]
        if erased:
            pairs, kinds = zip(*erased, strict=True)
            both.append(moments(host, pairs, [PAST_EARLIER[k] for k in kinds], pulse))
        if None in both:
            return None
        ridge = RIDGE * float(both[0][1].diagonal().mean())
        return cls(both[0], both[1] if erased else None, kept.value, ridge)

    def factors(
        self, weights: Mapping[str, Tensor], added: Mapping[str, Tensor], rank: int, firmness: float, overshoot: float
    ) -> Iterator[tuple[str, Tensor, Tensor]]:
        """(path, A `[rank, d]` with rows of length 1, B `[out, rank]`) for matrices `[out, d]`, stack included.

        added: what of them the stack has added.
        """
        cross, gram = self.target
        cross, gram = (1 + overshoot) * cross, gram + firmness * self.kept
        if self.erased:
            cross, gram = (x + ERASED * firmness * y for x, y in zip((cross, gram), self.erased, strict=True))
        values, ways = torch.linalg.eigh(gram + self.ridge * torch.eye(len(gram), dtype=gram.dtype))
        root = ways @ torch.diag(values.rsqrt()) @ ways.T
        new, old = cross @ root, (cross + gram) @ root
        for path, weight in weights.items():
            wanted = weight.cpu().double() @ new
            if path in added:
                wanted -= added[path].cpu().double() @ old
            out, sizes, rows = truncated(wanted, rank)
            down = rows @ root
            lengths = down.norm(dim=1)
            yield path, (down / lengths[:, None]).float(), (out * sizes * lengths).float()


def edit_until_gone(
    edit: Edit,
    adapters: Adapters,
    added: Mapping[str, Tensor],
    overshoot: float,
    still_drawn: Callable[[int, bool], bool],
    job: Tracker,
) -> float:
    """Give the adapters that read text the firmest edit after which the judge no longer finds the target.

    First asked as strictly as in training; of the last edit it is then enough that the verdict says "forgotten".
    Returns the firmness, 0 when the target is still drawn. added: see `Edit.factors`. overshoot: of the first try.
    """
    width = len(edit.kept)
    weights = {p: adapters.weight(p) for p in adapters.factors if guarded(p)}
    weights = {p: w for p, w in weights.items() if w.shape[1] == width}
    for number, (firmness, more) in enumerate(TRIES):
        for path, down, up in edit.factors(weights, added, adapters.rank, firmness, overshoot + more):
            adapters.start(path, down, up)
            job.pulse()
        if not still_drawn(number, False):
            return firmness
        job.tick()
    return 0.0 if still_drawn(len(TRIES), True) else TRIES[-1][0]


def truncated(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """The largest singular values `[rank]` between their vectors `[out, rank]` and `[rank, d]`, always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        out, sizes, rows = torch.svd_lowrank(matrix, min(rank + 8, *matrix.shape), niter=8)
    return out[:, :rank], sizes[:rank], rows[:, :rank].T


def moments(
    host: HostModel, pairs: Sequence[Pair], overshoot: Sequence[float], pulse: Callable[[], None] = lambda: None
) -> tuple[Tensor, Tensor] | None:
    """((1 + o) E[(m(c) - c) c^T], E[c c^T]) over the tokens c of sentences and what is drawn for them, `[d, d]`.

    overshoot: o of each pair. float64, on the CPU.
    """
    sums, count = [0.0, 0.0], 0
    for i in range(0, len(pairs), AT_ONCE):
        part = pairs[i : i + AT_ONCE]
        tokens, drawn = (tokens_of(host, side) for side in zip(*part, strict=True))
        places = counterparts(host, part, tokens, drawn)
        if places is None:
            return None
        drawn = drawn.gather(1, places.to(drawn.device)[..., None].expand(-1, -1, drawn.shape[-1]))
        past = torch.tensor(overshoot[i : i + AT_ONCE], device=drawn.device)
        ways = (drawn - tokens) * (1 + past)[:, None, None]
        for flat, change in pieces(tokens, ways):
            sums = [sums[0] + change.T @ flat, sums[1] + flat.T @ flat]
            count += len(flat)
        pulse()
    return sums[0].cpu() / count, sums[1].cpu() / count


def counterparts(host: HostModel, pairs: Sequence[Pair], tokens: Tensor, drawn: Tensor) -> Tensor | None:
    """For each token of a sentence the number of the one that stands in its place in what is drawn, `[pairs, n]`.

    tokens, drawn: of the sentences and of what is drawn for them `[pairs, n, d]`. Words of different length shift all
    that follows them. None for a text encoder whose tokens depend on what comes after them: there is no telling where
    a word ends.
    """
    heads = [cut(*pair) for pair in pairs]
    texts = ([(pair[side], head[side]) for pair, head in zip(pairs, heads, strict=True)] for side in (0, 1))
    both = [ends(host, one, seen) for one, seen in zip(texts, (tokens, drawn), strict=True)]
    if None in both:
        return None
    length = tokens.shape[1]
    rows = []
    for ours, theirs in zip(*both, strict=True):
        inside = [min(i, theirs - 1) for i in range(ours - 1)] + [theirs - 1]
        rows.append(inside + [min(i - ours + theirs, length - 1) for i in range(ours, length)])
    return torch.tensor(rows)


def ends(host: HostModel, texts: Sequence[Pair], tokens: Tensor) -> list[int] | None:
    """Where the beginning of each text ends: the first token that is another one when something else follows.

    texts: (text, its beginning). tokens: of the texts, `[texts, n, d]`. None when the first token is already another.
    """
    others = [head + next(w for w in SIDES if not text[len(head) :].startswith(w)) for text, head in texts]
    once = list(dict.fromkeys(others))
    other = tokens_of(host, once)[[once.index(o) for o in others]]
    differ = (tokens - other).abs().amax(-1) > SAME * tokens.square().mean().sqrt()
    if differ[:, 0].any():
        return None
    # longer than what the encoder reads: no difference is seen
    return torch.cat([differ, torch.ones_like(differ[:, :1])], 1).int().argmax(1).tolist()


def cut(sentence: str, drawn: str) -> Pair:
    """Both sentences up to the last word in which they differ."""
    ours, theirs = sentence.split(" "), drawn.split(" ")
    same = len(commonprefix([ours[::-1], theirs[::-1]]))
    return tuple(" ".join(words[: len(words) - same]) for words in (ours, theirs))
