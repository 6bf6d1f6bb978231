"""A word that is learned for a concept: the attack that asks how far a model still draws what its name no longer does.

Textual inversion (Gal et al. 2022, arXiv 2208.01618), as an attack on concept erasure (Pham et al. 2023, arXiv
2308.01508). Where a text encoder gives gradients, the word is one token's vector. Hosts give encoded prompts alone, so
there it is what a word does to them: a change of the encoded tokens, the same in all prompts and at all places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..host import Conditioning, HostModel
from ..sampling import direction
from .training.losses import LOSS_SCALE, squared_distance
from .training.memory import Pace, Plan

START = 0.2
"""Size of the words' random starts, as a part of the tokens' root mean square: each word finds a way of its own."""


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
    the base model answers to the prompts of what is to go, and what is to be answered instead.
    """

    x: Tensor
    sigma: Tensor
    prompts: Conditioning
    own: Tensor
    goal: Tensor

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: Tensor | Sequence[int]) -> Points:
        rows = torch.as_tensor(rows, device=self.x.device)
        return Points(self.x[rows], self.sigma[rows], self.prompts[rows], self.own[rows], self.goal[rows])

    def to(self, device: torch.device) -> Points:
        """The same on another device."""
        x, sigma, own, goal = (t.to(device) for t in (self.x, self.sigma, self.own, self.goal))
        return Points(x, sigma, self.prompts.to(device), own, goal)


def with_words(prompts: Conditioning, words: Tensor) -> Conditioning:
    """The prompts, each with a word `[b, d]` added to all its tokens; what only fills them up stays as it is."""
    tokens = prompts.tokens
    added = words.to(tokens.device)[:, None]
    if prompts.counts is not None:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        added = added * (places < prompts.counts.to(tokens.device)[:, None])[..., None]
    return Conditioning((tokens.float() + added).to(tokens.dtype), prompts.extras, prompts.counts)


class WordAttack:
    """Some words that are learned together, so that under them the model answers as the base model does to the target.

    points: pictures of the target whose prompts name something else. batch: rows of a step, shared by the words. rate:
    of a step, as a part of the tokens' root mean square.
    """

    def __init__(self, host: HostModel, points: Points, words: int, batch: int, rate: float, seed: int):
        self._host, self._points, self._batch, self._at_once = host, points, batch, batch
        self._rows = torch.arange(0)
        self._generator = torch.Generator().manual_seed(seed)
        tokens = points.prompts.tokens
        size = float(tokens.float().square().mean().sqrt())
        start = START * size * torch.randn(words, tokens.shape[-1], generator=self._generator)
        start[0] = 0.0
        self._learning = Learning(start.to(tokens.device), self._losses, rate * size)

    @property
    def words(self) -> Tensor:
        """What was learned so far, `[words, d]`."""
        return self._learning.vector.detach()

    def step(self, pace: Pace | None = None) -> Tensor:
        """Learn a step; the loss before it. pace: how many rows fit into a pass."""
        self._rows = torch.randint(0, len(self._points), (self._batch,), generator=self._generator)
        return pace.attempt(self._step_in_parts, undo=lambda: None) if pace else self._learning.step()

    def _step_in_parts(self, plan: Plan) -> Tensor:
        self._at_once = 2 * plan.pairs
        return self._learning.step()

    def _losses(self, words: Tensor) -> Iterator[Tensor]:
        """E || d_S(x; s, prompt + word) - d_T(x; s, target's prompt) ||^2 over a batch, a part a pass."""
        which = torch.arange(self._batch) % len(words)
        for part in torch.arange(self._batch).split(self._at_once):
            seen = self._points[self._rows[part]]
            asked = with_words(seen.prompts, words[which[part].to(words.device)])
            distance = squared_distance(direction(self._host, seen.x, seen.sigma, asked), seen.own)
            yield len(part) / self._batch * distance.mean()
