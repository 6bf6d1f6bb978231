"""What is generated in the target's place: chosen by what the model itself says about the candidates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..errors import TrainingFailed, UnlearnError, not_finite
from ..host import HostModel
from ..sampling import Probe, probe_levels
from ..words.compare import share_a_word
from ..words.prompts import REMOVED, Scene, fill, mapped
from .gate import share_read_as_target
from .halving import TargetLatents, distances_by_halving
from .known_words import TOLD_APART, spelled_out, told_apart
from .request import Request
from .run import Run
from .score_distance import score_distances, texts_apart

AT_TIMES = 0.5
"""Largest share of a style's pictures that may read as the target where no other style is left to be drawn instead."""
ASKED = 40
"""Most words without an entry of their own in the text encoder of which is asked whether the model knows them."""


Levels = Callable[[], Tensor]
"""Gives the distances to the anchor at all levels, `[levels]`: only a training needs them."""


class AnchorDraws(Exception):  # noqa: N818 - not an error: another anchor is taken
    """What is drawn in the target's place is read as the target after all."""


@dataclass(frozen=True)
class Anchor:
    """The chosen anchor.

    name: what is drawn instead (`REMOVED`: nothing). reason: in words. neighbours: concepts near the target, nearest
    first. distances: gives those between target and anchor at the probe's noise levels; None where nothing was drawn.
    rejected: {candidate: share of its pictures that read as the target}. confirm: looks at its pictures where that was
    left for later, and raises `AnchorDraws` where they read as the target.
    """

    name: str
    reason: str
    neighbours: tuple[str, ...]
    distances: Levels | None = None
    rejected: dict[str, float] = field(default_factory=dict)
    confirm: Callable[[], None] = lambda: None


def choose_anchor(run: Run) -> Anchor:
    """The nearest concept whose pictures do not read as the target, or the artist's own. Raises `UnlearnError`."""
    return AnchorChoice.make(run).nearest()


@dataclass
class AnchorChoice:
    """Candidates in the order in which they are tried.

    probed: scenes of the target. order: (candidate, whether it stands for many things). levels: gives distances, see
    `Anchor`. given: what needs no choice. passed, rejected: candidates that were looked at.
    """

    run: Run
    probed: Sequence[Scene] = ()
    order: Sequence[tuple[str, bool]] = ()
    neighbours: tuple[str, ...] = ()
    levels: Callable[[str], Levels] | None = None
    given: Anchor | None = None
    passed: set[str] = field(default_factory=set)
    rejected: dict[str, float] = field(default_factory=dict)

    @classmethod
    def make(cls, run: Run) -> AnchorChoice:
        """Rank the rivals by score distance (LACU, arXiv 2512.02657), as far as the request leaves a choice.

        What already stands in for an earlier target comes late, since what many words lead to draws others along. The
        concept's category and leaving it out come last. Raises `UnlearnError` where there is no candidate.
        """
        request, config, recipe = run.request, run.request.config, run.request.recipe
        if not config.check:
            run.job.start("choosing", 1, "choosing what to draw instead")
            return cls(run, given=by_text_alone(run))
        run.job.start("sampling", config.sampling_steps, f"drawing pictures of '{request.concept}'")
        probed = request.targets[: recipe.probe_prompts]
        latents = TargetLatents(run, run.host.encode([s.prompt for s in probed]))
        latents.first(run.job.tick)
        run.job.start("choosing", recipe.rivals + 4, "choosing what to draw instead")
        rivals = sieved(run)
        category = request.words.category(request.concept) if request.kind == "object" else ""
        extra = [w for w in (config.anchor, category) if w and w not in rivals]
        names = [*rivals, *extra, *([] if request.kind == "style" else [REMOVED])]
        if not names:
            raise nothing_left(request)
        measured, levels = measured_distances(run, probed, latents, names)
        if not torch.isfinite(measured).all():
            raise TrainingFailed(not_finite("answers with"))
        distances = dict(zip(names, measured.tolist(), strict=True))
        nearest = sorted(names, key=lambda n: distances[n])
        neighbours = tuple(n for n in nearest if n in rivals)
        same = same_things(request, distances)
        if config.anchor:
            reason = "given by the artist"
            if config.anchor in same:
                reason += f"; this model hardly tells it from '{request.concept}', which may still be drawn"
            return cls(run, given=Anchor(config.anchor, reason, neighbours, levels(config.anchor)))
        order = in_order(request, [n for n in nearest if n not in same], category)
        return cls(run, probed, order, neighbours, levels)

    @property
    def may_wait(self) -> bool:
        """Whether the check's own pictures tell as much: the first fit is cheap, and is looked at before any other."""
        request = self.run.request
        in_groups = request.recipe.group > 0 and request.vocabulary is None
        return in_groups and request.config.closed_form and bool(self.run.readers)

    def nearest(self, confirmed: bool = True) -> Anchor:
        """The nearest that does not read as the target, as far as is known. Raises `UnlearnError` where none is left.

        confirmed: look at its pictures now; else where it is needed, see `Anchor.confirm`. What stands for many things
        is looked at now.
        """
        if self.given:
            return self.given
        for name, general in self.order:
            if name in self.rejected:
                continue
            if (confirmed or general or not self.may_wait) and not self.passes(name, general):
                continue
            return self.anchor(name, f"nearest to '{self.run.request.concept}' for this model")
        request, rejected = self.run.request, self.rejected
        if request.kind == "style" and rejected and min(rejected.values()) <= AT_TIMES:
            # no style at all would be any of them, and what it leaves the check finds
            name = min(rejected, key=lambda n: rejected[n])
            share = rejected.pop(name)
            self.passed.add(name)
            reason = f"all that are left still draw it at times, this one least ({share:.0%} of what was looked at)"
            return replace(self.anchor(name, ""), reason=reason)
        raise UnlearnError(
            f"Nothing near '{request.concept}' could take its place without drawing it; name one under 'Draw instead'."
        )

    def anchor(self, name: str, reason: str) -> Anchor:
        """One of the candidates."""
        if self.rejected:
            nearer = (n or "leaving it out" for n in self.rejected)
            reason += "; nearer ones still draw it: " + ", ".join(nearer)
        levels = self.levels(name) if self.levels else None
        return Anchor(name, reason, self.neighbours, levels, dict(self.rejected), lambda: self.confirm(name))

    def confirm(self, name: str) -> None:
        """Raise `AnchorDraws` where a candidate's pictures read as the target."""
        if not self.passes(name, False):
            raise AnchorDraws

    def passes(self, name: str, general: bool) -> bool:
        """The gate, once for each candidate, with the model as it was before the request."""
        if name not in self.passed and name not in self.rejected:
            with self.run.student.off():
                share = share_read_as_target(self.run, self.probed, name, general)
            self.run.job.tick()
            if share > (0.0 if general else self.run.request.recipe.anchor_gate):
                self.rejected[name] = share
            else:
                self.passed.add(name)
        return name in self.passed


def measured_distances(
    run: Run, probed: Sequence[Scene], latents: TargetLatents, names: Sequence[str]
) -> tuple[Tensor, Callable[[str], Levels]]:
    """(mean score distance of each candidate, `[names]`; what gives one's at all noise levels).

    probed: scenes of the target; latents: pictures of them.
    """
    request, host, recipe = run.request, run.host, run.request.recipe

    def prompts(name: str) -> list[str]:
        return [mapped(s, name, request.kind, request.words).prompt for s in probed]

    def at_all(asked: Sequence[str]) -> Tensor:
        drawn, sigmas = latents.rows(0, len(probed)), probe_levels(host, recipe.anchor_levels)
        probe = Probe.make(host, drawn, sigmas, request.config.seed)
        return score_distances(host, probe, latents.asked, [host.encode(prompts(n)) for n in asked], run.job.tick)

    if recipe.group:
        rows = [[s.prompt for s in probed], *map(prompts, names)]
        means = distances_by_halving(host, latents.rows, rows, recipe, (request.config.seed, run.job.tick))
        return means, lambda name: lambda: at_all([name])[0]
    found = at_all(names)
    return found.mean(1), lambda name: lambda: found[list(names).index(name)]


def same_things(request: Request, distances: Mapping[str, float]) -> frozenset[str]:
    """Candidates of the vocabulary that are other words for the target, as a ukulele may be for a guitar.

    distances: of all candidates to the target. What lies nearer than what is drawn without any word adds so little to
    it that it is the target again, which the gate cannot tell: each picture reads as what was asked for.
    """
    if request.vocabulary is None or REMOVED not in distances:
        return frozenset()
    least = request.recipe.anchor_apart * distances[REMOVED]
    return frozenset(name for name, distance in distances.items() if distance < least)


def in_order(request: Request, nearest: Sequence[str], category: str) -> list[tuple[str, bool]]:
    """(candidate, whether it stands for many things, the target among them), in the order in which they are tried."""
    candidates = possible([n for n in nearest if n != REMOVED], request)
    # A category draws any of its members, which may be asked to go next; leaving the word out draws anything at all.
    general = [*(n for n in candidates if n == category), *(n for n in nearest if n == REMOVED)]
    single = [n for n in candidates if n != category][: request.recipe.anchor_candidates]
    return [*((n, False) for n in single), *((n, True) for n in general)]


def by_text_alone(run: Run) -> Anchor:
    """The choice without pictures: the rival whose text lies nearest. Raises `UnlearnError` where there is none."""
    request = run.request
    nearest = nearest_by_text(run.host, request)[: request.recipe.rivals]
    if request.config.anchor:
        return Anchor(request.config.anchor, "given by the artist", nearest)
    candidate = likely(run.host, request, nearest)[0]
    return Anchor(candidate, f"nearest to '{request.concept}' by its text; no picture was looked at", nearest)


def nearest_by_text(host: HostModel, request: Request) -> tuple[str, ...]:
    """All rivals, those first whose text lies nearest to the concept's."""
    rivals = request.rivals()
    return by_text(host, request, rivals) if rivals else ()


def likely(host: HostModel, request: Request, nearest: Sequence[str]) -> list[str]:
    """Candidates that the text encoder has whole, as far as there are any. Raises `UnlearnError` where there are none.

    What is spelled out may mean nothing to the model, and to find that out costs more than the rest of a quick run.
    """
    found = possible(nearest, request)
    if not found:
        raise nothing_left(request)
    return found if host.words_file else [c for c in found if not is_spelled_out(host, c)] or found


def possible(nearest: Sequence[str], request: Request) -> list[str]:
    """What may stand in the target's place, in the same order but for what already stands in for another.

    Nothing that shares a word with the target, since the word is to lead away from it.
    """
    words, concept, earlier = request.words, request.concept, request.moving[1:]
    # A category word still means the members that have gone, and the base model, which teaches, would draw them;
    # and whatever belongs to a category is still a picture of it.
    no_longer = [*earlier, *filter(None, map(words.category, earlier))]
    no_longer += [m for c in (concept, *earlier) for m in words.members(c)]
    banned, used = ({w.casefold() for w in group} for group in (no_longer, request.stack.anchors()))
    banned |= {n.casefold() for n in nearest if any(share_a_word(n, c) for c in (concept, *earlier))}
    return sorted((n for n in nearest if n.casefold() not in banned), key=lambda n: n.casefold() in used)


def sieved(run: Run) -> tuple[str, ...]:
    """At most `Recipe.rivals` rivals that the model knows, those whose text lies nearest, earlier targets left out."""
    host, request = run.host, run.request
    rivals = request.rivals()
    most = request.recipe.rivals
    if len(rivals) > most:
        rivals = by_text(host, request, rivals)
    found = known(run, rivals)
    if request.kind == "style" and not possible(found, request):
        # one that says nothing to the model has to do: no style at all would be any of them
        found = [*found, *(r for r in rivals if r not in found)]
    return tuple(found[:most])


def known(run: Run, nearest: Sequence[str]) -> list[str]:
    """Those of some words that the model tells from nonsense; all of them where they are its own list's.

    A word with an entry of its own in the text encoder costs no pass. Of the others only the nearest are asked for,
    and what is left is dropped.
    """
    host, request = run.host, run.request
    if host.words_file:
        return list(nearest)
    spelled = [name for name in nearest if is_spelled_out(host, name)]
    if not spelled:
        return list(nearest)
    with run.teacher():
        asked = told_apart(host, spelled[:ASKED], request.kind, request.words, run.job.pulse)
    apart = dict.fromkeys(spelled, 0.0) | asked
    return [name for name in nearest if apart.get(name, TOLD_APART) >= TOLD_APART]


def is_spelled_out(host: HostModel, name: str) -> bool:
    """Whether the text encoder has no entry of its own for one of the words."""
    return any(spelled_out(host, word) for word in name.split())


def by_text(host: HostModel, request: Request, rivals: Sequence[str]) -> tuple[str, ...]:
    """The rivals, those first whose text lies nearest to the concept's; before all others some of its own category."""
    words = request.words
    template = (words.style_templates if request.kind == "style" else words.object_templates)[0]
    order = texts_apart(host, [fill(template, w, w) for w in (request.concept, *rivals)]).argsort().tolist()
    nearest = [rivals[i] for i in order]
    first = [name for name in nearest if name in request.relatives][: request.recipe.near_rivals]
    return tuple(dict.fromkeys([*first, *nearest])) if first else tuple(nearest)


def nothing_left(request: Request) -> UnlearnError:
    """What is said where neither the lists nor the artist name anything."""
    return UnlearnError(
        f"The word list has nothing to take the place of '{request.concept}'; name it under 'Draw instead'."
    )
