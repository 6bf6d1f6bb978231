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

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
IN_FLOAT64 = 1024
"""Widest matrix of a target that is kept in float64, 8 MB: of a hundred targets wider ones would take gigabytes, and
the tokens that they are made of are in float32 themselves."""
AT_ONCE = 2**23
"""Numbers of all targets that are multiplied with one another at once."""


@dataclass(frozen=True)
class Way:
    """The way of one target's tokens to what is generated instead, E[(m(t) - t) t^T].

    right: the matrix itself `[d, d]`; where they take less, its tokens t `[rows, d]`, and left: their m(t) - t
    `[rows, d]`, for a mean over `count` of them. length: E||W (m(t) - t)||^2 over all layers.
    """

    right: Tensor
    length: float
    left: Tensor | None = None
    count: int = 1

    @classmethod
    def make(cls, told: Sequence[tuple[Tensor, Tensor]], cross: Tensor, length: float, count: int) -> Way:
        """In the form that takes least. told: (tokens, ways), each `[rows, d]`; cross: their sum, float64 `[d, d]`."""
        width = len(cross)
        if 2 * sum(len(tokens) for tokens, _ in told) <= width:
            tokens, ways = (torch.cat(side) for side in zip(*told, strict=True))
            return cls(tokens, length, ways, count)
        cross = cross / count
        return cls(cross if width <= IN_FLOAT64 else cross.float(), length)

    @property
    def cross(self) -> Tensor:
        """The matrix, float64 `[d, d]`."""
        return self.rows(slice(None))

    def rows(self, part: slice) -> Tensor:
        """Some rows of the matrix, float64 `[part, d]`."""
        if self.left is None:
            return self.right[part].double()
        return self.left[:, part].double().T @ self.right.double() / self.count

    def after(self, matrix: Tensor) -> Tensor:
        """A matrix `[n, d]` times this one, float64 `[n, d]`."""
        if self.left is None:
            return matrix @ self.right.double()
        return matrix @ self.left.double().T @ self.right.double() / self.count


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
        count = len(self.ways)
        found = torch.zeros(count, count, dtype=torch.float64)
        if not count:
            return found
        half, width = torch.linalg.cholesky(self.held), len(self.held)
        for part in parts(width, max(1, AT_ONCE // (count * width))):
            # with S = half half^T: tr(M C_i S^-1 C_j^T), some rows of all matrices at a time
            sides = (way.after(self.measure[part]) for way in self.ways.values()), self.rows(part)
            seen, went = (torch.stack([*halved(side, half)]).flatten(1) for side in sides)
            found += seen @ went.T
        return (found + found.T) / 2

    def rows(self, part: slice) -> Iterator[Tensor]:
        """Some rows of each way's matrix, float64 `[part, d]`."""
        return (way.rows(part) for way in self.ways.values())

    def equations(self, tried: Tried) -> tuple[Tensor, Tensor, float]:
        """C and S of the formula above; l is in S, as it holds all that is added. tried: the reach of each target."""
        wanted = [tried[number] * way.length for number, way in self.ways.items()]
        found = multipliers(self.pulls, torch.tensor(wanted, dtype=torch.float64))
        crosses = (a * way.cross for a, way in zip(found, self.ways.values(), strict=True))
        return sum(crosses, torch.zeros_like(self.held)), self.held, 0.0


def parts(count: int, size: int) -> Iterator[slice]:
    """All numbers below `count`, so many at a time."""
    return (slice(i, i + size) for i in range(0, count, size))


def halved(matrices: Iterable[Tensor], half: Tensor) -> Iterator[Tensor]:
    """Each matrix `[n, d]` times the transposed inverse of a lower triangular one `[d, d]`, transposed: `[d, n]`."""
    return (torch.linalg.solve_triangular(half, matrix.T, upper=False) for matrix in matrices)


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
    told: list[tuple[Tensor, Tensor]] = []
    for i in range(0, len(pairs), PROMPTS_AT_ONCE):
        found = changes(reader, pairs[i : i + PROMPTS_AT_ONCE])
        if found is None:
            return None
        for tokens, way in pieces(found[0].values, found[1]):
            cross, gram = cross + (way.T @ tokens).cpu(), gram + (tokens.T @ tokens).cpu()
            length += float((way.cpu() @ measure * way.cpu()).sum())
        told.append(telling(found[0].values, found[1]))
        count += sum(found[0].counts)
        run.job.pulse()
    return Way.make(told, cross, length / count, count), gram / count


def telling(tokens: Tensor, ways: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens and their ways, each `[prompts, n, d]`, as `[rows, d]` on the CPU without rows that add nothing."""
    tokens, ways = tokens.flatten(0, -2), ways.flatten(0, -2)
    both = tokens.any(-1) & ways.any(-1)
    return tokens[both].cpu(), ways[both].cpu()
