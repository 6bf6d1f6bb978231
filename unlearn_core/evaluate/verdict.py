"""The check's numbers and its verdict in words, and whether a delta may be handed on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..recipe import Recipe
from .evaluator import Answers

WAY_OUT = (
    "Choose another 'Draw instead', name what must stay under 'Keep', or keep the delta all the same with "
    "'Go on regardless' (--force)."
)


def verdict(before: Answers | None, after: Answers | None, recipe: Recipe) -> dict[str, Any]:
    """The check's numbers for the report: shares 0..1, the neighbour that lost most, and a verdict in words.

    before: None for a run without the check. after: None as well for one that was stopped before its last look.
    """
    if before is None:
        return {"verdict": "not checked"}
    if after is None:
        return {"forgotten_before": 1 - before.target_share, "verdict": "not checked: the run was stopped"}
    kept_before, kept_after = (sum(a.preserved.values()) / max(1, len(a.preserved)) for a in (before, after))
    losses = {name: before.preserved[name] - after.preserved[name] for name in before.preserved}
    worst = max(losses, key=lambda n: losses[n]) if losses else ""
    left = after.target_share
    partly = "partly forgotten" if left <= recipe.partly_share else "not forgotten"
    gone = "forgotten" if left <= recipe.forgotten_share else partly
    harmed = kept_after < kept_before - recipe.harmed_share
    harm = f", but '{worst}' and others are harmed" if harmed else ", the rest preserved"
    return {
        "forgotten_before": 1 - before.target_share,
        "forgotten_after": 1 - left,
        "preserved_before": kept_before,
        "preserved_after": kept_after,
        "worst_neighbour": {"concept": worst, "lost": losses.get(worst, 0.0)},
        "verdict": gone + harm,
    }


def too_harmful(numbers: Mapping[str, Any], recipe: Recipe) -> str:
    """Why a delta with these numbers of `verdict` is not handed on, as a sentence or two; "" when it may be."""
    if "preserved_after" not in numbers:
        return ""
    before, after = numbers["preserved_before"], numbers["preserved_after"]
    if after < recipe.least_preserved * before:
        worst = numbers["worst_neighbour"]["concept"]
        return (
            f"Nothing was handed on, because the delta harms too much: other concepts were read right in {before:.0%} "
            f"of their pictures before and in {after:.0%} with it, '{worst}' lost most. {WAY_OUT}"
        )
    return ""
