"""The check's numbers and its verdict in words, and whether a delta may be handed on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..recipe import Recipe
from .evaluator import Answers

WAY_OUT = (
    "Choose another 'Draw instead', name what must stay under 'Keep', or keep the delta all the same with "
    "'Go on regardless'."
)


STILL_NEAR = (
    "not checked: no picture was looked at, but a few scores say that it may still be drawn; use the quality 'normal'"
)
NOT_JUDGED = "whether the rest is preserved could not be judged, since the model knows none of what it was asked for"


def not_checked(near: float | None, recipe: Recipe) -> dict[str, Any]:
    """The same for a run without pictures. near: of its `Glance`, None where there was none."""
    if near is None:
        return {"verdict": "not checked"}
    return {"verdict": STILL_NEAR if near > recipe.glance_near else "not checked", "scores_near_target": near}


def verdict(before: Answers | None, after: Answers | None, recipe: Recipe) -> dict[str, Any]:
    """The check's numbers for the report: shares 0..1, the neighbour that lost most, and a verdict in words.

    before: None for a run without the check. after: None as well for one that was stopped before its last look.
    Concepts that the model did not draw recognisably before count for nothing; they are listed under `not_known`.
    """
    if before is None:
        return {"verdict": "not checked"}
    if after is None:
        return {"forgotten_before": 1 - before.target_share, "verdict": "not checked: the run was stopped"}
    left = after.target_share
    partly = "partly forgotten" if left <= recipe.partly_share else "not forgotten"
    gone = "forgotten" if left <= recipe.forgotten_share else partly
    numbers: dict[str, Any] = {"forgotten_before": 1 - before.target_share, "forgotten_after": 1 - left}
    kept, harm = preserved(before, after, recipe)
    numbers |= kept | {"verdict": gone + harm}
    if unknown := [n for n, share in before.preserved.items() if share < recipe.known_share]:
        numbers["not_known"] = unknown
    if after.outside:
        worst = max(after.outside, key=lambda p: after.outside[p])
        numbers["outside"] = {"prompt": worst, "change": after.outside[worst]}
    if after.not_finite:
        numbers["not_finite"] = after.not_finite
    return numbers


def preserved(before: Answers, after: Answers, recipe: Recipe) -> tuple[dict[str, Any], str]:
    """(numbers of what was to be preserved, the same in the words of the verdict)."""
    known = [n for n, share in before.preserved.items() if share >= recipe.known_share]
    numbers: dict[str, Any] = {}
    harms: list[str] = []
    if known:
        kept_before, kept_after = (sum(a.preserved[n] for n in known) / len(known) for a in (before, after))
        losses = {name: before.preserved[name] - after.preserved[name] for name in known}
        worst = max(losses, key=lambda n: losses[n])
        numbers = {
            "preserved_before": kept_before,
            "preserved_after": kept_after,
            "preserved_concepts": len(known),
            "worst_neighbour": {"concept": worst, "lost": losses[worst]},
        }
        if kept_after < kept_before - recipe.harmed_share:
            harms.append(f"'{worst}' and others are harmed")
    if after.not_finite:
        harms.append(f"the rest is harmed: {after.not_finite} pictures are no longer made of finite numbers (NaN)")
    if outside := [p for p, change in after.outside.items() if change > recipe.outside_harmed]:
        worst = max(outside, key=lambda p: after.outside[p])
        harms.append(f"prompts outside the list are harmed, '{worst}' most")
    if harms:
        return numbers, ", but " + ", and ".join(harms)
    if not known:
        return (
            numbers,
            "; whether the rest is preserved could not be judged, since the model knows none of what was asked",
        )
    return numbers, ", the rest preserved"


def too_harmful(numbers: Mapping[str, Any], recipe: Recipe) -> str:
    """Why a delta with these numbers of `verdict` is not handed on, as a sentence or two; "" when it may be."""
    why = ""
    if count := numbers.get("not_finite"):
        why = f"with it the model draws numbers that are not finite (NaN) in {count} pictures"
    elif "preserved_after" in numbers:
        before, after = numbers["preserved_before"], numbers["preserved_after"]
        # of one concept or two a picture that is read otherwise may be chance
        lost = (before - after) * numbers["preserved_concepts"]
        if after < recipe.least_preserved * before and lost > recipe.lost_by_chance:
            why = (
                f"other concepts were read right in {before:.0%} of their pictures before and in {after:.0%} with it, "
                f"'{numbers['worst_neighbour']['concept']}' lost most"
            )
    return f"Nothing was handed on, because the delta harms too much: {why}. {WAY_OUT}" if why else ""
