"""The least change with which every target of a stack goes a given part of its way.

With W the base model's matrices, X all that is added to them, tokens t of a target, m(t) what is generated instead, and
k everything that stays:

    E||X k||^2 + g sum_t E||X t||^2 + l ||X||^2  ->  min,
    with  E<X t, W (m(t) - t)> >= r_t E||W (m(t) - t)||^2  for each target

The reach r of a target is the part of the way from its own answer to its anchor's. The answer is a sum over all
targets,

    X = W C S^-1,   C = sum_j a_j E[(m(t_j) - t_j) t_j^T],   S = E[k k^T] + g sum_j E[t_j t_j^T] + l I,

whose multipliers a_j >= 0 are those of the constraints (Kuhn and Tucker 1951), found by Hildreth's method. A
least-squares fit (see `closed_form`) spends the same on every target; here one that needs little takes little. The
small weight g holds a target's tokens together: without it some go far past the anchor for others that stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .closed_form import ClosedForm, Tried, changes
from .prompt_pairs import Pair
from .run import Run
from .text_reader import TextReader
from .token_moments import PROMPTS_AT_ONCE, pieces

ROUNDS = 200
"""Most times that all multipliers are gone through."""
ENOUGH = 1e-4
"""Part of the way that may be left to what a target has to go."""


@dataclass(frozen=True)
class Way:
    """The way of one target's tokens to what is generated instead.

    cross: E[(m(t) - t) t^T], float64 `[d, d]`. length: E||W (m(t) - t)||^2 over all layers.
    """

    cross: Tensor
    length: float


@dataclass(frozen=True)
class Reach(ClosedForm):
    """ways: of all targets that have one to go, by their numbers. measure: the sum of W^T W over the layers; preserved:
    E[k k^T]; held: S of the formula above; all three float64 `[d, d]`."""

    ways: Mapping[int, Way]
    measure: Tensor
    preserved: Tensor
    held: Tensor

    @classmethod
    def make(
        cls, run: Run, reader: TextReader, targets: Sequence[Sequence[Pair]], near: Sequence[str] = ()
    ) -> Reach | None:
        """From the prompts of each target and of what is preserved, as a group of layers reads them.

        near: terms of the vocabulary that are preserved too. None where tokens have no counterparts (see
        `counterparts`).
        """
        recipe, measure = run.request.recipe, measure_of(run, reader)
        ways: dict[int, Way] = {}
        grams = torch.zeros_like(measure)
        for number, pairs in enumerate(targets):
            found = way_of(run, reader, pairs, measure)
            if found is None:
                return None
            way, gram = found
            grams += gram
            # a target whose tokens are its anchor's has no way to go
            ways |= {number: way} if way.length > 0 else {}
        preserved = run.preserved(reader, near).value
        together = recipe.reach_together * min(1.0, recipe.earlier_shared / len(targets))
        ridge = recipe.reach_ridge * float(preserved.diagonal().mean())
        held = preserved + together * grams + ridge * torch.eye(len(preserved), dtype=torch.float64)
        return cls(ways, measure, preserved, held)

    @cached_property
    def pulls(self) -> Tensor:
        """E<X t, W (m(t) - t)> of each target when another one's multiplier is one, `[ways, ways]`."""
        half = torch.linalg.cholesky(self.held)
        ways = [torch.linalg.solve_triangular(half, way.cross.T, upper=False) for way in self.ways.values()]
        rows = [[float((seen * way).sum()) for way in ways] for seen in (way @ self.measure for way in ways)]
        return torch.tensor(rows, dtype=torch.float64).reshape(len(ways), len(ways))

    def equations(self, tried: Tried) -> tuple[Tensor, Tensor, float]:
        """C and S of the formula above; l is in S, as it holds all that is added. tried: the reach of each target."""
        wanted = [tried[number] * way.length for number, way in self.ways.items()]
        found = multipliers(self.pulls, torch.tensor(wanted, dtype=torch.float64))
        crosses = (a * way.cross for a, way in zip(found, self.ways.values(), strict=True))
        return sum(crosses, torch.zeros_like(self.held)), self.held, 0.0


def multipliers(pulls: Tensor, wanted: Tensor) -> Tensor:
    """The least a >= 0 with pulls a >= wanted, in the metric of pulls: Hildreth's method (1957), one after the other.

    pulls: symmetric, none negative on its diagonal, `[n, n]`; wanted: above zero, `[n]`. What cannot be reached
    together is left after `ROUNDS`.
    """
    found = torch.zeros_like(wanted)
    for _ in range(ROUNDS):
        for i in range(len(found)):
            if pulls[i, i] > 0:
                found[i] = (found[i] + (wanted[i] - pulls[i] @ found) / pulls[i, i]).clamp(min=0)
        short = (wanted - pulls @ found) / wanted
        if bool((short <= ENOUGH).all()) and bool((short[found > 0].abs() <= ENOUGH).all()):
            break
    return found


def measure_of(run: Run, reader: TextReader) -> Tensor:
    """The sum of W^T W over the reader's layers, as a run without a stack has them, float64 `[d, d]`."""
    total = torch.zeros((), dtype=torch.float64)
    for weight in run.edits.weights(reader.paths).values():
        matrix = weight.cpu().double()
        total = total + matrix.T @ matrix
        run.job.pulse()
    return total


def way_of(run: Run, reader: TextReader, pairs: Sequence[Pair], measure: Tensor) -> tuple[Way, Tensor] | None:
    """(the way of one target's tokens, E[t t^T]) from its prompts; None where tokens have no counterparts."""
    cross, gram, length, count = torch.zeros_like(measure), torch.zeros_like(measure), 0.0, 0
    for i in range(0, len(pairs), PROMPTS_AT_ONCE):
        found = changes(reader, pairs[i : i + PROMPTS_AT_ONCE])
        if found is None:
            return None
        for tokens, way in pieces(found[0].values, found[1]):
            cross, gram = cross + (way.T @ tokens).cpu(), gram + (tokens.T @ tokens).cpu()
            length += float((way.cpu() @ measure * way.cpu()).sum())
        count += sum(found[0].counts)
        run.job.pulse()
    return Way(cross / count, length / count), gram / count
