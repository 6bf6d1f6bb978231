"""Closed forms that leave directions alone in which other words lie: DP, SPEED, and CEASE's two terms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unlearn_core.method.token_moments import moment_of

from .text_space import TextSpace
from .uce import UCE


@dataclass(frozen=True)
class DP(UCE):
    """DP (2026, arXiv 2604.10032): the edit lies in the null space of the `directions` main ones of what is preserved.

    Preserved: lists and vocabulary; what is lost there is bounded by the first singular value that is left out.
    """

    name: ClassVar[str] = "dp"
    label: ClassVar[str] = "DP, null space of lists and vocabulary"
    GRID: ClassVar[dict] = {"directions": (48, 96, 144)}
    directions: int = 96
    ridge: float = 1e-2

    def change(self, space: TextSpace) -> Tensor:
        """X P with P the projection onto the null space."""
        free = outside(self.held(space) + moment_of(space.reader, space.open_prompts).value, self.directions)
        gram = free @ space.gram @ free
        return space.cross @ free @ torch.linalg.inv(gram + space.ridge(self.ridge)) @ free


@dataclass(frozen=True)
class SPEED(UCE):
    """SPEED (2025, arXiv 2503.07392): the null space of those preserved words that a free edit would move most.

    They are joined by `copies` of themselves with noise along the directions that W hardly reads (`spread`: of how
    many, and `strength`: how much of a token's length), and by what never changes: the start token. threshold: part
    of the largest eigenvalue below which a direction is free.
    """

    name: ClassVar[str] = "speed"
    label: ClassVar[str] = "SPEED, null space of what a free edit moves"
    GRID: ClassVar[dict] = {"threshold": (1e-3, 1e-2, 1e-1)}
    threshold: float = 1e-2
    ridge: float = 1e-2
    copies: int = 2
    spread: int = 8
    strength: float = 0.1

    def change(self, space: TextSpace) -> Tensor:
        """As DP's, with the null space of the filtered and multiplied tokens."""
        held = self.influenced(space)
        values, ways = torch.linalg.eigh(held)
        bound = ways[:, values > self.threshold * values[-1]]
        free = torch.eye(len(held), dtype=torch.float64) - bound @ bound.T
        gram = free @ space.gram @ free
        return space.cross @ free @ torch.linalg.inv(gram + space.ridge(self.ridge)) @ free

    def influenced(self, space: TextSpace) -> Tensor:
        """The second moment of what is left of the preserved prompts, with copies and earlier targets, `[d, d]`."""
        x = space.cross @ torch.linalg.inv(space.gram + space.ridge(self.ridge))
        prompts = [*space.listed_prompts, *space.open_prompts]
        rows = [space.reader.read(prompts[i : i + 64]).values.cpu().double() for i in range(0, len(prompts), 64)]
        tokens = torch.cat(rows)
        moved = (tokens @ x.T).square().sum((1, 2))
        chosen = tokens[moved >= moved.mean()].flatten(0, 1)
        draw = torch.Generator().manual_seed(space.task.seed)
        hardly = self.hardly_read(space)
        noise = torch.randn(self.copies * len(chosen), len(x), generator=draw, dtype=torch.float64) @ hardly
        size = chosen.norm(dim=1).mean() / self.spread**0.5
        several = torch.cat([chosen, chosen.repeat(self.copies, 1) + self.strength * size * noise])
        never = tokens[:1, 0]
        held = several.T @ several / len(several) + never.T @ never
        earlier = [p for one in space.task.past for p, _ in one.prompts]
        return held + moment_of(space.reader, earlier).value if earlier else held

    def hardly_read(self, space: TextSpace) -> Tensor:
        """The projection onto the directions with the smallest singular values of all matrices together, `[d, d]`."""
        read = sum((w.cpu().double().T @ w.cpu().double() for w in space.matrices.values()), torch.zeros(()).double())
        _, ways = torch.linalg.eigh(read)
        least = ways[:, : self.spread]
        return least @ least.T


@dataclass(frozen=True)
class CEASE(UCE):
    """CEASE (2026, arXiv 2610.01989), its two terms on UCE: the stand-ins stay as they are, and a new change leaves
    the directions alone that earlier changes read.

    stand_in: what the anchors' own tokens weigh. ways: how many directions of each earlier change.
    """

    name: ClassVar[str] = "cease"
    label: ClassVar[str] = "CEASE, stand-ins held and past changes avoided"
    GRID: ClassVar[dict] = {"keep_scale": (1.0, 3.0, 10.0)}
    stand_in: float = 1.0
    ways: int = 1

    def change(self, space: TextSpace) -> Tensor:
        """UCE's, off the past."""
        x = super().change(space)
        past = self.past_ways(space)
        return x - (x @ past) @ past.T

    def held(self, space: TextSpace) -> Tensor:
        """The lists and the stand-ins."""
        return super().held(space) + self.stand_in * moment_of(space.reader, space.anchor_prompts).value

    def past_ways(self, space: TextSpace) -> Tensor:
        """An orthonormal basis of what earlier changes mainly read, `[d, n]`."""
        (path, *_) = space.matrices
        found = []
        for one in space.task.past:
            dense = (one.dense or {})[f"{path}.weight"].cpu().double()
            found.append(torch.linalg.svd(dense, full_matrices=False).Vh[: self.ways])
        if not found:
            return torch.zeros(len(space.gram), 1, dtype=torch.float64)
        return torch.linalg.qr(torch.cat(found).T).Q


def outside(moment: Tensor, directions: int) -> Tensor:
    """The projection onto what a moment's main directions leave free, `[d, d]`."""
    _, ways = torch.linalg.eigh(moment)
    main = ways[:, len(moment) - min(directions, len(moment) - 1) :]
    return torch.eye(len(moment), dtype=torch.float64) - main @ main.T
