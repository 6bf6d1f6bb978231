"""One way to forget after the other, until the check's last look finds the target gone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from ..device_memory import is_out_of_memory, release
from ..errors import Cancelled, UnlearnError
from ..evaluate.evaluator import Answers, Evaluator, NoCheck
from ..evaluate.verdict import too_harmful, verdict
from .anchor import Anchor, AnchorDraws
from .closed_form import fits_in_closed_form
from .deep import Depth, fit_against_words
from .everywhere import Unasked, fit_everywhere
from .fit import Fit
from .plan import look
from .prompt_pairs import PromptPairs
from .run import Run
from .training.loop import fit_by_training

FULL = "there was not enough memory for it; close other programs"


@dataclass(frozen=True)
class Attempt:
    """A fit and the check's last look at it.

    after: None where nobody looked at pictures. remark: why nothing better was tried. near: of a quick run's `Glance`.
    further: what was found by going on from there, where the request asks for it. tried_training: whether the settings
    of training had a say, even where what they gave is not taken.
    """

    fit: Fit
    after: Answers | None
    remark: str = ""
    near: float | None = None
    further: Depth | Unasked | None = None
    tried_training: bool = False


def unfinished(report: Mapping) -> bool:
    """Whether something of a run failed that may work another time: memory that was full, a package that is missing."""
    further = report.get("depth") or report.get("scope") or {}
    return bool(report.get("remark")) or further.get("remark") == FULL


def attempted(
    run: Run, anchor: Anchor, pairs: PromptPairs, evaluator: Evaluator | NoCheck, before: Answers | None
) -> Attempt | None:
    """The first fit that the last look finds to have forgotten, else the best one; None where the anchor is to blame.

    Bounded: each try of the closed form is looked at once at most, and so is the training, which comes last. What
    fails on the way, or is stopped, ends the search with what there is. Raises `UnlearnError` where that is nothing.
    """
    found: list[Attempt] = []
    remark, tried = "", False
    try:
        for fit in ways(run, anchor, pairs, evaluator):
            tried = tried or fit.steps > 0
            after = last_look(run, evaluator)
            found.append(Attempt(fit, after, near=evaluator.near if isinstance(evaluator, NoCheck) else None))
            if after is None or isinstance(evaluator, NoCheck) or evaluator.gone(after):
                break
            looked = look(run.request)
            run.job.extend({"editing": looked, "after": looked})
    except AnchorDraws:
        run.edits.set({})
        return None
    except UnlearnError as e:
        # the artist's own callback and unforeseen errors are no part of this: they end the run
        if not found or (isinstance(e, Cancelled) and run.request.config.on_stop == "discard"):
            raise
        remark = "" if isinstance(e, Cancelled) else str(e)
        tried = True
    # what a stop has left without a look is worth less than what was looked at
    looked_at = [attempt for attempt in found if attempt.after] or found
    best = min(looked_at, key=lambda attempt: rank(run, before, attempt))
    return replace(best, remark=remark, tried_training=tried)


def gone_on(
    run: Run,
    anchor: Anchor,
    pairs: PromptPairs,
    evaluator: Evaluator | NoCheck,
    before: Answers | None,
    attempt: Attempt,
) -> Attempt:
    """The same attempt, where the request asks for more made to resist learned words, or to show the target nowhere.

    As it was where that is worse: where it harms more than it may, or draws the target by name, or by learned words or
    unasked, more than before. Raises
    `Cancelled` after a stop that keeps nothing.
    """
    config = run.request.config
    if isinstance(evaluator, NoCheck) or run.job.stopping:
        return attempt
    found: Depth | Unasked
    if config.depth == "deep":
        found = Depth()
    elif config.scope == "everywhere":
        found = Unasked()
    else:
        return attempt
    told = replace(attempt, further=found, tried_training=True)
    try:
        run.edits.set(attempt.fit.factors)
        if isinstance(found, Depth):
            fit = fit_against_words(run, anchor, pairs, evaluator, attempt.fit, found)
        else:
            fit = fit_everywhere(run, pairs, attempt.fit, found)
        after = last_look(run, evaluator) if fit else None
    except UnlearnError as e:
        if isinstance(e, Cancelled) and config.on_stop == "discard":
            raise
        fit, after, found.remark = None, None, "" if isinstance(e, Cancelled) else str(e)
    except (RuntimeError, MemoryError) as e:
        # what was checked before is not lost with it
        if not is_out_of_memory(e):
            raise
        release(run.host.device)
        fit, after, found.remark = None, None, FULL
    if run.job.stopping and config.on_stop == "discard":
        raise Cancelled("Stopped; nothing was kept, as you chose.")
    if fit and after:
        further = replace(told, fit=fit, after=after)
        if rank(run, before, further)[:2] > rank(run, before, attempt)[:2]:
            found.remark = f"{found.worse}: {verdict(before, after, run.request.recipe)['verdict']}"
        elif found.shares and found.shares[-1] > found.shares[0]:
            found.remark = found.no_better
        else:
            return further
    found.kept, found.remark = False, found.remark or found.stopped
    run.edits.set(attempt.fit.factors)
    return told


def ways(run: Run, anchor: Anchor, pairs: PromptPairs, evaluator: Evaluator | NoCheck) -> Iterator[Fit]:
    """The fits that are worth a last look; while one is looked at it is on the run's layers."""
    yield from fits_in_closed_form(run, pairs, evaluator, anchor.confirm)
    anchor.confirm()
    yield fit_by_training(run, anchor, pairs, evaluator)


def last_look(run: Run, evaluator: Evaluator | NoCheck) -> Answers | None:
    """The answers after the change; None when the artist stops here and keeps what was learned."""
    try:
        answers = None if run.job.stopping else evaluator.after()
    except Cancelled:
        answers = None
    if run.job.stopping and run.request.config.on_stop == "discard":
        raise Cancelled("Stopped at the last look; nothing was kept, as you chose.")
    return answers


def rank(run: Run, before: Answers | None, attempt: Attempt) -> tuple:
    """Smaller is better: no more harm than may be, then how much is left, then the rest preserved."""
    recipe = run.request.recipe
    numbers = verdict(before, attempt.after, recipe)
    left = attempt.after.target_share if attempt.after else 1.0
    grade = sum(left > mark for mark in (recipe.forgotten_share, recipe.partly_share))
    return bool(too_harmful(numbers, recipe)), grade, "harmed" in numbers["verdict"], left
