"""Going on from a fit by training all attention: what `deep` and `everywhere` have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import torch

from ..config import ForgetConfig
from ..progress import PLANNED
from .adapters import Adapters, attached, peft_parts
from .fit import Fit
from .run import Run
from .training.checkpointing import checkpointed
from .training.losses import PreservationPenalty, drift, go_back
from .training.memory import Pace


@dataclass
class Further:
    """What such a part has found.

    shares: of the pictures that still show the target, before each round and after the last one. steps: training
    steps. kept: whether its change is part of the delta. remark: why not.
    """

    shares: list[float] = field(default_factory=list)
    steps: int = 0
    seconds: float = 0.0
    kept: bool = True
    remark: str = ""

    key: ClassVar[str]
    """Where it stands in the report: the name of the setting that asks for it."""
    shown: ClassVar[str]
    """What the shares are of, in words."""
    measured: ClassVar[str]
    """The same, as the report's keys begin."""
    listed: ClassVar[str]
    """The report's key of all shares."""
    against: ClassVar[str]
    """What is trained against, in words."""
    stopped: ClassVar[str]
    worse: ClassVar[str]
    no_better: ClassVar[str] = "it showed more of the target than before, so the result before it is kept"
    """Why its change was not kept: stopped, worse than what was there, or of no use."""

    @property
    def rounds(self) -> int:
        """How often it was trained."""
        return max(0, len(self.shares) - 1)

    def numbers(self) -> dict:
        """As plain JSON values, for the report."""
        return {
            f"{self.measured}_before": self.shares[0] if self.shares else None,
            # of a change that was thrown away no share is the delta's
            f"{self.measured}_after": self.shares[-1] if self.shares and self.kept else None,
            self.listed: self.shares,
            "rounds": self.rounds,
            "steps": self.steps,
            "seconds": self.seconds,
            "kept": self.kept,
            "remark": self.remark,
        }

    @classmethod
    def rows(cls, report: Mapping) -> list[tuple[str, str]]:
        """What a whole report says of it, as rows of (label, value); none where that was not asked."""
        found = report.get(cls.key)
        if not found:
            return []
        rows, label = [], cls.key.capitalize()
        if found[cls.listed]:
            before, after = found[f"{cls.measured}_before"], found[f"{cls.measured}_after"]
            rows.append((cls.shown, f"{before:.0%} before" + ("" if after is None else f", {after:.0%} after")))
        rows.append((label, f"{found['rounds']} rounds, {found['steps']} steps, {found['seconds']:.0f} s"))
        if found["remark"]:
            rows.append((f"{label} not kept", found["remark"]))
        return rows


class Work(Protocol):
    """The rounds of such a part, and how its steps fit into memory."""

    @property
    def pace(self) -> Pace:
        """The memory plan."""
        ...

    def go_on(self) -> bool:
        """All rounds; whether they came to an end. What is kept is on the layers then."""
        ...


def fit_further(
    run: Run, fit: Fit, found: Further, expected: dict[str, float], prepare: Callable[[Adapters], Work]
) -> Fit | None:
    """Go on from a fit with adapters on all attention; the outcome is on `run.edits`.

    found: is filled in. expected: forward passes by phase, for the bar. None where the artist has stopped it: the fit
    that it began with is on the layers then. Raises `UnlearnError` where peft is missing or numbers overflow; the
    layers then have that fit as well.
    """
    peft_parts()
    run.job.extend(expected, PLANNED)
    config, begun = run.request.config, run.job.seconds
    where, read = run.host.device, run.edits.weight
    run.edits.set({})
    factors = fit.factors
    try:
        with attached(run.backbone, run.edits.paths, run.ranks(fit.factors), config.seed, where, read) as adapters:
            for path, (down, up) in fit.factors.items():
                adapters.start(path, down, up)
            run.student = adapters
            work = prepare(adapters)
            with checkpointed(run.backbone, lambda: work.pace.plan.checkpointing):
                ended = work.go_on()
                if ended and found.steps:
                    factors = {path: adapters.pair(path) for path in adapters.factors}
    finally:
        run.student = run.edits
        run.edits.set(factors)
        found.seconds = run.job.seconds - begun
    if not ended:
        return None
    run.bound()
    steps, memory = fit.steps + found.steps, work.pace.plan.sentence()
    return Fit(factors, fit.preserve_scale, steps, found.seconds, memory, found.against)


def hold(
    adapters: Adapters, added: Sequence[str], penalties: Sequence[PreservationPenalty], config: ForgetConfig
) -> float:
    """Add up the gradients of what holds a change: the size of the added layers', and what preserved words feel.

    What the closed form has put there is wanted, whatever its size. Returns the drift.
    """
    change = drift((a, b, 1.0) for _, a, b in adapters.alike(added))
    held = sum((penalty(adapters) for penalty in penalties), torch.zeros((), device=change.device))
    # after a training no layer is new, and without a weight nothing is penalised
    if added or penalties:
        go_back(config.drift_weight * change + config.preservation_weight * held)
    return float(change.detach())
