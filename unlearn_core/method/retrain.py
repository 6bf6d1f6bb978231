"""Make the later deltas of a stack anew, as if one before them had never been there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ..config import ForgetConfig
from ..delta.format import Delta
from ..delta.removal import Removal
from ..delta.stack import Entry, Stack
from ..errors import BadSetting, TrainingFailed
from ..host import HostModel
from ..progress import Progress
from ..saved_work import NOTHING, NoSavedWork
from .forget import Result, forget_or_go_on, harm_in


def under_old_name(old: Entry, made: Result) -> Delta:
    """The new delta under the old one's name."""
    return made.delta.named(old.delta.name)


@dataclass(frozen=True)
class Retraining:
    """What whoever has deltas made anew hears and decides.

    progress: gives the callback for the i-th of n runs. keep: called with the old entry and the new result as soon as
    one is ready (to save it); what it returns takes the old one's place, strength included. ready: what an earlier
    run has made in an entry's place, or None. saved: where an entry's unfinished work is kept. force: whether a delta
    is kept that harms more than it may.
    """

    progress: Callable[[int, int], Progress | None] = lambda i, n: None
    keep: Callable[[Entry, Result], Delta] = under_old_name
    ready: Callable[[Entry, ForgetConfig, Stack], Delta | None] = lambda old, config, stack: None
    saved: Callable[[Entry], NoSavedWork] = lambda old: NOTHING
    force: bool = False


def retrain(host: HostModel, removal: Removal, way: Retraining = Retraining()) -> Stack:
    """Make the later deltas anew in their order, each with its recorded settings on top of all before it.

    Raises `BadSetting` before any work when one has no recorded request, as a merge has none, `TrainingFailed` at the
    first delta that harms too much, and what `forget` raises.
    """
    configs = [recorded(e.delta) for e in removal.after]
    for entry in removal.after:
        if (was := entry.delta.info.prediction_type) != host.prediction_type:
            raise BadSetting(
                f"'{entry.delta.label}' was made on a model that predicts {was}, but the loaded one is taken to "
                f"predict {host.prediction_type}: load it as the delta says (--prediction {was})."
            )
    stack = removal.before
    for i, (old, config) in enumerate(zip(removal.after, configs, strict=True)):
        delta = way.ready(old, config, stack)
        if delta is None:
            work = way.saved(old)
            # whoever made it has been asked about its words
            asked = replace(config, force=True)
            made = forget_or_go_on(host, asked, stack, way.progress(i, len(configs)), work)
            if not way.force and (harm := harm_in(made.report, config)):
                raise TrainingFailed(f"'{old.delta.label}' was not made anew. {harm}")
            delta = way.keep(old, made)
            work.remove()
        stack = stack.with_delta(delta, old.strength)
    return stack


def recorded(delta: Delta) -> ForgetConfig:
    """The request that made a delta. Raises `BadSetting` when the file does not tell one that can be repeated."""
    if delta.info.merged:
        raise BadSetting(f"'{delta.label}' is a merge and has no request to repeat: give the deltas it was made of.")
    try:
        return ForgetConfig.from_flat(delta.info.config)
    except BadSetting as e:
        raise BadSetting(f"'{delta.label}' cannot be made anew, its recorded settings are of no use: {e}") from e
