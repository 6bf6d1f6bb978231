"""When enough pictures have been looked at: Wald's sequential probability ratio test, and the check's questions in it.

A. Wald, "Sequential Tests of Statistical Hypotheses", Annals of Mathematical Statistics 16 (1945), 117-186: go on while
the likelihood ratio of two shares lies between b / (1 - a) and (1 - b) / a. Of the two wrong answers none is then given
more often than in a part of about a, or b, of the cases in which its share or a more extreme one is the true one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, log

from ..recipe import Recipe


@dataclass(frozen=True)
class SequentialTest:
    """Whether a share is at most `low` or at least `high`. error: of either answer, a = b."""

    low: float
    high: float
    error: float

    def answer(self, hits: int, count: int) -> bool | None:
        """True: at least `high`; False: at most `low`; None: not known yet, after so many hits in `count` trials."""
        ratio = hits * log(self.high / self.low) + (count - hits) * log((1 - self.high) / (1 - self.low))
        bound = log((1 - self.error) / self.error)
        return None if abs(ratio) < bound else ratio > 0


FORGOTTEN, PARTLY, STILL_THERE = range(3)


def grade(share: float, recipe: Recipe) -> int:
    """The verdict's word for a share of pictures that are read as the target."""
    return sum(share > mark for mark in (recipe.forgotten_share, recipe.partly_share))


def decided(margins: Sequence[float], recipe: Recipe, weak: bool = False) -> bool:
    """Whether the verdict on the target is known from the margins of the pictures so far (see `reading.margins`).

    weak: whether the change leads the target so little of its way that only all pictures tell that it is forgotten.
    Forgotten: pictures are not only not read as it, but clearly so. Where more than `forgotten_share` of them are, far
    more lie near, so that is known from few. Partly, and not at all: from how many are read as it.
    """
    count, found = len(margins), 0
    # so written what is no number counts as the target's
    hits, near = (sum(not m < mark for m in margins) for mark in (0.0, -recipe.clear_margin))
    if not count:
        return False
    found = grade(hits / count, recipe)
    if found == FORGOTTEN:
        return not weak and SequentialTest(*recipe.near_shares, recipe.error).answer(near, count) is False
    most = SequentialTest(*recipe.partly_shares, recipe.error).answer(hits, count)
    if found == STILL_THERE:
        return most is True
    return most is False and SequentialTest(*recipe.forgotten_shares, recipe.error).answer(hits, count) is True


def enough(margins: Sequence[float], left: int, recipe: Recipe, weak: bool = False) -> int:
    """The fewest pictures more after which the verdict may be known, at most two groups of them, and what is left.

    Arguments as of `decided`.
    """
    most = min(2 * recipe.group, left)
    clear = ([*margins, *[-inf] * n] for n in range(1, most))
    return next((n for n, seen in enumerate(clear, 1) if decided(seen, recipe, weak)), most)
