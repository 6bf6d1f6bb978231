"""forget(): the whole method on one screen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..config import ForgetConfig
from ..delta.format import Delta, Factor
from ..delta.info import DeltaInfo
from ..delta.stack import Stack
from ..device_memory import release
from ..errors import BadDelta, TrainingFailed
from ..evaluate.evaluator import Answers
from ..evaluate.verdict import not_checked, too_harmful, verdict
from ..host import HostModel, base_of, title_of
from ..progress import Progress
from ..recipe import DEFAULT, Recipe, thorough
from ..saved_work import NOTHING, NoSavedWork
from ..words.understood import unnamed
from ..words.word_list import WordList
from .anchor import Anchor, AnchorChoice
from .attempts import Attempt, attempted, gone_on
from .checks import evaluator_for
from .deep import Depth
from .everywhere import Unasked
from .finite import check_layers, check_text, solved
from .known_words import ask_about_unknown_words
from .prompt_pairs import PromptPairs
from .request import Request
from .run import Run

HARMED = (
    "Look at the pictures. If you miss what was harmed, take this delta off the stack, name it under 'Keep', and start "
    "again."
)
BROKEN_PICTURES = (
    "The model's autoencoder (VAE) gives pictures of numbers that are not finite (NaN), so nothing was handed on: load "
    "the VAE in full precision, or choose another one."
)


def forget(
    host: HostModel,
    config: ForgetConfig,
    stack: Stack | None = None,
    progress: Progress | None = None,
    general: WordList | None = None,
    recipes: Mapping[str, Recipe] | None = None,
) -> Result:
    """Make one delta on top of `stack` with which `host` no longer generates `config.concept`.

    The host's model is the same afterwards, bit for bit, whatever happens. The base model is the teacher.

    host: the loaded checkpoint. stack: the earlier deltas, lowest first; none where it is left out.
    progress: hears each unit of work, and returns True to ask for a stop.
    general: words that are preserved beside those of the checkpoint's own list; the bundled list where it is left out.
    recipes: the method's constants for each kind of concept; `recipe.DEFAULT` where they are left out.
    Raises `BadSetting` and `BadDelta` before any work, `Cancelled` after a stop that keeps nothing, `TrainingFailed`
    when numbers overflow or nothing would change, and another `UnlearnError` for what the model cannot do.
    """
    return carried_out(Request.read(host, config, stack or Stack(), general, recipes), host, progress)


def forget_or_go_on(
    host: HostModel, config: ForgetConfig, stack: Stack, progress: Progress | None, saved: NoSavedWork
) -> Result:
    """`forget`, going on from what a run of the same request has left in `saved`, to the same bytes.

    The caller removes the saved work when the result is safe.
    """
    return carried_out(Request.read(host, config, stack), host, progress, saved)


def carried_out(
    request: Request, host: HostModel, progress: Progress | None = None, saved: NoSavedWork = NOTHING
) -> Result:
    """The method: a request that was read, worked on step by step."""
    with Run.open(request, host, progress, saved) as run, solved():
        check_layers(run.backbone, request.layers)
        check_text(host.encode, request.concept)
        ask_about_unknown_words(run)
        choice, attempt = AnchorChoice.make(run), None
        while attempt is None:
            # where one was to blame the next may be as well: it is looked at before so much is done with it
            anchor = choice.nearest(confirmed=bool(choice.rejected))
            pairs = PromptPairs.make(request, anchor.name)
            evaluator = evaluator_for(run, anchor)
            before = evaluator.before()
            check_pictures(host, before)
            attempt = attempted(run, anchor, pairs, evaluator, before)
        attempt = gone_on(run, anchor, pairs, evaluator, before, attempt)
        run.job.finish()
    return Result.make(run, anchor, pairs, attempt, before)


def check_pictures(host: HostModel, before: Answers | None) -> None:
    """Raise `TrainingFailed` before any work where the autoencoder makes no numbers of the model's own latents."""
    if before and not torch.isfinite(host.decode(before.latents[:1])).all():
        raise TrainingFailed(BROKEN_PICTURES)


@dataclass(frozen=True)
class Result:
    """What a run gives: the delta, its report (plain JSON values, times in seconds) and pictures of `prompts`.

    before, after: `[n, 3, H, W]` in 0..1, same prompts and noise, the target's first; after is None for a stopped run,
    both are without the check. withheld: why the delta is not to be used, as sentences for the artist, since it harms
    more than it may; "" where all is well or `config.force` keeps it. Whoever made the run then saves and applies
    nothing.
    """

    delta: Delta
    report: dict
    prompts: tuple[str, ...]
    before: Tensor | None
    after: Tensor | None
    withheld: str = ""

    @classmethod
    def make(cls, run: Run, anchor: Anchor, pairs: PromptPairs, attempt: Attempt, before: Answers | None) -> Result:
        """Put together what was found. Raises `TrainingFailed` when the delta would do nothing."""
        host, request, after = run.host, run.request, attempt.after
        numbers = verdict(before, after, request.recipe) if before else not_checked(attempt.near, request.recipe)
        delta = delta_of(run, anchor, pairs, attempt, numbers)
        # A look among all objects takes part of a second; a card's memory is needed by others.
        release(host.device, young=host.device.type != "cuda")
        # Without an after there is nothing to compare, and who stops does not want to wait: some of the target's.
        count = request.recipe.shown if after else request.recipe.shown // 4
        drawn, changed = (None if a is None else host.decode(a.latents[:count]) for a in (before, after))
        prompts = before.prompts if before else tuple(s.prompt for s in request.held_out)
        withheld = "" if request.config.force else too_harmful(numbers, request.recipe) or broken_in([drawn, changed])
        report = report_of(run, anchor, attempt, delta) | {"withheld": withheld}
        return cls(delta, report, prompts[:count], drawn, changed, withheld)

    def summary(self) -> list[tuple[str, str]]:
        """The run as rows of (label, value), for whoever shows it."""
        return summary(self.report)


def delta_of(run: Run, anchor: Anchor, pairs: PromptPairs, attempt: Attempt, numbers: dict) -> Delta:
    """The delta, rounded to what its file will hold. Raises `TrainingFailed` when it would do nothing."""
    request, host, fit = run.request, run.host, attempt.fit
    stopped = ""
    if run.job.stopping:
        early = "stopped before all was tried" if attempt.after else "stopped before the last look"
        stopped = f"stopped at step {fit.steps}" if fit.steps else early
    info = DeltaInfo(
        concept=request.concept,
        kind=request.kind,
        anchor=anchor.name,
        architecture=host.architecture,
        prediction_type=host.prediction_type,
        base_fingerprint=host.fingerprint,
        parents=request.stack.parents(),
        config=request.config.deciding(),
        prompts=pairs.forget,
        check=numbers | kept_beyond(request.config, attempt),
        steps=fit.steps,
        stopped=stopped,
        base_name=title_of(host),
        base_sample=sample.text() if (sample := base_of(host).sample) else "",
        near=run.near,
    )
    factors = {request.layers[path]: Factor.within_layer(a, b, float(len(a))) for path, (a, b) in fit.factors.items()}
    try:
        delta = Delta(factors, info).rounded()
        delta.check_effect()
    except BadDelta as e:
        raise TrainingFailed(f"Nothing was handed on: {e}") from e
    return delta


def kept_beyond(config: ForgetConfig, attempt: Attempt) -> dict[str, bool]:
    """Whether what was asked for in depth or everywhere is part of the delta; it is not where no run came so far."""
    asked = [Depth.key] if config.depth == "deep" else [Unasked.key] if config.scope == "everywhere" else []
    return {f"{key}_kept": bool(attempt.further and attempt.further.kept) for key in asked}


def report_of(run: Run, anchor: Anchor, attempt: Attempt, delta: Delta) -> dict:
    """What was done and how well, as plain JSON values."""
    request, fit = run.request, attempt.fit
    told = request.config.check and getattr(run.host, "guidance", None) is not None
    return {
        **({"guidance": request.config.guidance} if told else {}),
        "concept": request.concept,
        "kind": request.kind,
        "anchor": anchor.name,
        "reason": anchor.reason,
        "rejected": anchor.rejected,
        "neighbours": list(anchor.neighbours),
        "architecture": run.host.architecture,
        "prediction_type": run.host.prediction_type,
        "stack": list(request.earlier),
        "way": fit.way,
        "preserve_scale": fit.preserve_scale,
        "steps": fit.steps,
        "tried_training": attempt.tried_training,
        "stopped": delta.info.stopped,
        "keep_unnamed": unnamed(request.config.keep, request.words, request.vocabulary),
        "remark": attempt.remark,
        "seconds": run.job.seconds,
        "training_seconds": fit.seconds,
        "memory": fit.memory,
        "check": delta.info.check,
        "seed": request.config.seed,
        **({attempt.further.key: attempt.further.numbers()} if attempt.further else {}),
    }


def broken_in(pictures: Iterable[Tensor | None]) -> str:
    """What to do where any pictures that there are hold numbers that are not finite, or ""."""
    return BROKEN_PICTURES if any(p is not None and not torch.isfinite(p).all() for p in pictures) else ""


def harm_in(report: Mapping, config: ForgetConfig) -> str:
    """Why the delta with this report is not to be used, whether or not somebody forced it, or ""."""
    recipe = DEFAULT[report["kind"]]
    return too_harmful(report["check"], thorough(recipe) if config.quality == "thorough" else recipe)


def summary(report: Mapping) -> list[tuple[str, str]]:
    """A report as rows of (label, value), the same in the console, on the node and in the tab."""
    check = report["check"]
    rows = [("Forget", report["concept"]), ("Draws instead", report["anchor"] or "nothing in its place")]
    rows += [("Why", report["reason"]), ("Result", check["verdict"])]
    if "harmed" in check["verdict"] and not report.get("withheld"):
        rows.append(("What to do", HARMED))
    if "forgotten_after" in check:
        before, after = 1 - check["forgotten_before"], 1 - check["forgotten_after"]
        rows.append(("Pictures read as the target", f"{before:.0%} before, {after:.0%} after"))
    if "preserved_after" in check:
        kept = f"{check['preserved_before']:.0%} before, {check['preserved_after']:.0%} after"
        rows.append(("Pictures of other concepts read right", kept))
    if check.get("not_known"):
        rows.append(("Not known by this model", ", ".join(check["not_known"])))
    rows.append(("How", report["way"]))
    if "guidance" in report:
        rows.append(("Guidance of the check", f"{report['guidance']:g}"))
    if report.get("keep_unnamed"):
        rows.append(("Kept, but in no word list", ", ".join(report["keep_unnamed"])))
    rows += Depth.rows(report) + Unasked.rows(report)
    if report["stack"]:
        rows.append(("On top of", ", ".join(report["stack"])))
    if report["stopped"]:
        rows.append(("Stopped", report["stopped"]))
    if report.get("remark"):
        rows.append(("Not tried further", report["remark"]))
    if report.get("withheld"):
        rows.append(("Not kept", report["withheld"]))
    rows.append(("Time", f"{report['seconds']:.0f} s"))
    return rows
