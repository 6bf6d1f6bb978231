"""A word that is learned for a concept: the attack that asks how far a model still draws what its name no longer does.

Textual inversion (Gal et al. 2022, arXiv 2208.01618), as an attack on concept erasure (Pham et al. 2023, arXiv
2308.01508). Where a text encoder gives gradients, the word is one token's vector. Hosts give encoded prompts alone, so
there it is what a word does to them, the same in all prompts: one change of all encoded tokens. Or one of the token in
the word's place and one of all tokens after it: an encoder that reads from left to right does not change the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..host import Conditioning, HostModel, counted
from ..sampling import direction
from .training.losses import LOSS_SCALE, squared_distance
from .training.memory import Pace, Plan

START = 0.2
"""Size of the words' random starts, as a part of the tokens' root mean square: each word finds a way of its own."""
BEFORE, AT, AFTER = 0, 1, 2
"""A word's changes, by their number: of the tokens before its place, of the one in it, and of those after it."""
FILLING = -1
"""What stands in their place where a token only fills a row up."""
SAME = 1e-2
"""Largest change of a token, as a part of all tokens' root mean square, that counts as none: rounding is no word."""


class Learning:
    """A vector of any shape that is being learned by AdamW, without weight decay.

    losses_of: what is lowered, as a function of it, in parts that are added up one after the other.
    """

    def __init__(self, start: Tensor, losses_of: Callable[[Tensor], Iterable[Tensor]], rate: float):
        self.vector = start.detach().clone().requires_grad_(True)
        self._losses_of = losses_of
        self._optimizer = torch.optim.AdamW([self.vector], rate, weight_decay=0.0)

    def step(self) -> Tensor:
        """One step; the loss before it. The gradients of everything else are left alone."""
        total, gradient = torch.zeros((), device=self.vector.device), torch.zeros_like(self.vector)
        with torch.enable_grad():
            for loss in self._losses_of(self.vector):
                gradient += torch.autograd.grad(LOSS_SCALE * loss, [self.vector])[0] / LOSS_SCALE
                total += loss.detach()
        self.vector.grad = gradient
        self._optimizer.step()
        return total


@dataclass(frozen=True)
class Points:
    """Noised pictures and what the base model answers there, worked out once.

    x `[n, c, h, w]` at noise levels sigma `[n]`. prompts: what the model is asked there. own, goal `[n, c, h, w]`: what
    the base model answers to the prompts of what is to go, and what is to be answered instead. places `[n, tokens]`:
    where a word may stand in the prompts (see `places_of`); None where none is learned.
    """

    x: Tensor
    sigma: Tensor
    prompts: Conditioning
    own: Tensor
    goal: Tensor
    places: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: Tensor | Sequence[int]) -> Points:
        rows = torch.as_tensor(rows, device=self.x.device)
        places = None if self.places is None else self.places[rows]
        return Points(self.x[rows], self.sigma[rows], self.prompts[rows], self.own[rows], self.goal[rows], places)

    def asked_with(self, words: Tensor) -> Conditioning:
        """Its prompts, each with a word `[n, 3, d]` in its places. Raises `ValueError` where there are none."""
        if self.places is None:
            raise ValueError("Nothing tells where a word stands in these prompts.")
        return with_words(self.prompts, words, self.places)

    def to(self, device: torch.device) -> Points:
        """The same on another device."""
        x, sigma, own, goal = (t.to(device) for t in (self.x, self.sigma, self.own, self.goal))
        places = None if self.places is None else self.places.to(device)
        return Points(x, sigma, self.prompts.to(device), own, goal, places)


def places_of(prompts: Conditioning, others: Conditioning) -> Tensor:
    """Where the word stands in which prompts differ from others, row by row: `[b, n]` for the tokens of `prompts`.

    `AT` at the first token that differs, `BEFORE` before and `AFTER` after it. Where an encoder reads in both
    directions all tokens differ.
    """
    tokens, rest = prompts.tokens.float(), others.tokens.float()
    both = min(tokens.shape[1], rest.shape[1])
    size = tokens.square().mean().sqrt()
    differs = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
    differs[:, :both] = (tokens[:, :both] - rest[:, :both]).abs().amax(-1) > SAME * size
    passed = differs.long().cumsum(1)
    places = torch.where(passed > 0, AFTER, BEFORE)
    places[differs & (passed == 1)] = AT
    numbers = torch.arange(tokens.shape[1], device=tokens.device)
    return places.masked_fill(numbers >= counted(prompts).to(tokens.device)[:, None], FILLING)


def with_words(prompts: Conditioning, words: Tensor, places: Tensor) -> Conditioning:
    """The prompts, each with a word `[b, 3, d]` put into its places `[b, n]` (see `places_of`)."""
    tokens = prompts.tokens
    words, places = words.to(tokens.device), places.to(tokens.device)
    added = sum(
        (words[:, k, None] * (places == k)[..., None] for k in (BEFORE, AT, AFTER)), start=torch.zeros_like(tokens)
    )
    return Conditioning((tokens.float() + added).to(tokens.dtype), prompts.extras, prompts.counts)


@dataclass(frozen=True)
class Words:
    """So many words; placed: whether each changes its own place and what comes after it, or all tokens alike."""

    count: int
    placed: bool = False

    def start(self, width: int, generator: torch.Generator) -> Tensor:
        """What is learned of them, at random but for the first one, `[count, 1 or 2, width]`."""
        found = torch.randn(self.count, 1 + self.placed, width, generator=generator)
        found[0] = 0.0
        return found

    def changes(self, learned: Tensor) -> Tensor:
        """`[count, 3, width]` (see `with_words`) of what is learned."""
        if self.placed:
            return torch.cat([torch.zeros_like(learned[:, :1]), learned], 1)
        return learned.expand(-1, 3, -1)


class WordAttack:
    """Some words that are learned together, so that under them the model answers as the base model does to the target.

    points: pictures of the target whose prompts name something else, with the places of that name. batch: rows of a
    step, shared by the words. rate: of a step, as a part of the tokens' root mean square.
    """

    def __init__(self, host: HostModel, points: Points, words: Words, batch: int, rate: float, seed: int):
        self._kind, self._host, self._points, self._batch, self._at_once = words, host, points, batch, batch
        self._rows = torch.arange(0)
        self._generator = torch.Generator().manual_seed(seed)
        tokens = points.prompts.tokens
        size = float(tokens.float().square().mean().sqrt())
        start = START * size * words.start(tokens.shape[-1], self._generator)
        self._learning = Learning(start.to(tokens.device), self._losses, rate * size)

    @property
    def words(self) -> Tensor:
        """What was learned so far, `[words, 3, d]` (see `with_words`)."""
        return self._kind.changes(self._learning.vector.detach())

    def step(self, pace: Pace | None = None) -> Tensor:
        """Learn a step; the loss before it. pace: how many rows fit into a pass."""
        self._rows = torch.randint(0, len(self._points), (self._batch,), generator=self._generator)
        return pace.attempt(self._step_in_parts, undo=lambda: None) if pace else self._learning.step()

    def _step_in_parts(self, plan: Plan) -> Tensor:
        self._at_once = 2 * plan.pairs
        return self._learning.step()

    def _losses(self, learned: Tensor) -> Iterator[Tensor]:
        """E || d_S(x; s, prompt + word) - d_T(x; s, target's prompt) ||^2 over a batch, a part a pass."""
        words = self._kind.changes(learned)
        which = torch.arange(self._batch) % len(words)
        for part in torch.arange(self._batch).split(self._at_once):
            seen = self._points[self._rows[part]]
            asked = seen.asked_with(words[which[part].to(words.device)])
            distance = squared_distance(direction(self._host, seen.x, seen.sigma, asked), seen.own)
            yield len(part) / self._batch * distance.mean()
