"""What is generated in the target's place: chosen by what the model itself says about the candidates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import TrainingFailed, UnlearnError, not_finite
from ..evaluate.diffusion_classifier import read_as
from ..evaluate.drawn import Drawn
from ..evaluate.evaluator import Reader
from ..evaluate.reading import HowToRead
from ..evaluate.sequential import SequentialTest
from ..host import Conditioning, HostModel
from ..sampling import Probe, Sampler, probe_levels
from ..saved_work import number_of
from ..words.compare import share_a_word
from ..words.prompts import REMOVED, Scene, fill, mapped
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


@dataclass(frozen=True)
class Anchor:
    """The chosen anchor.

    name: what is drawn instead (`REMOVED`: nothing). reason: in words. neighbours: concepts near the target, nearest
    first. distances: gives those between target and anchor at the probe's noise levels; None where nothing was drawn.
    rejected: {candidate: share of its pictures that read as the target}.
    """

    name: str
    reason: str
    neighbours: tuple[str, ...]
    distances: Levels | None = None
    rejected: dict[str, float] = field(default_factory=dict)


def choose_anchor(run: Run) -> Anchor:
    """The nearest concept whose pictures do not read as the target, or the artist's own. Raises `UnlearnError`."""
    if not run.request.config.check:
        run.job.start("choosing", 1, "choosing what to draw instead")
        return by_text_alone(run)
    recipe, config = run.request.recipe, run.request.config
    run.job.start("sampling", config.sampling_steps, f"drawing pictures of '{run.request.concept}'")
    probed = run.request.targets[: recipe.probe_prompts]
    asked = run.host.encode([s.prompt for s in probed])
    latents = TargetLatents(run, asked)
    latents.rows(0, recipe.halving_pictures if recipe.group else len(probed), run.job.tick)
    run.job.start("choosing", recipe.rivals + 4, "choosing what to draw instead")
    return by_score_distance(run, probed, latents)


def by_score_distance(run: Run, probed: Sequence[Scene], latents: TargetLatents) -> Anchor:
    """Rank the rivals by score distance (LACU, arXiv 2512.02657) and take the nearest that passes the gate.

    probed: scenes of the target; latents: the model's own pictures of them. What already stands in
    for an earlier target comes late, since what many words lead to draws others along. The concept's category and
    leaving it out come last. Raises `UnlearnError` when no candidate passes.
    """
    request, config, recipe = run.request, run.request.config, run.request.recipe
    words, kind = request.words, request.kind
    rivals = sieved(run)
    category = words.category(request.concept) if kind == "object" else ""
    extra = [w for w in (config.anchor, category) if w and w not in rivals]
    names = [*rivals, *extra, *([] if kind == "style" else [REMOVED])]
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
        return Anchor(config.anchor, reason, neighbours, levels(config.anchor))
    rejected: dict[str, float] = {}
    for name, general in in_order(request, [n for n in nearest if n not in same], category):
        allowed = 0.0 if general else recipe.anchor_gate
        share = share_read_as_target(run, probed, name, general)
        run.job.tick()
        if share <= allowed:
            reason = f"nearest to '{request.concept}' for this model"
            if rejected:
                reason += "; nearer ones still draw it: " + ", ".join(n or "leaving it out" for n in rejected)
            return Anchor(name, reason, neighbours, levels(name), rejected)
        rejected[name] = share
    if kind == "style" and rejected and min(rejected.values()) <= AT_TIMES:
        # no style at all would be any of them, and what it leaves the check finds
        name = min(rejected, key=lambda n: rejected[n])
        reason = (
            f"all that are left still draw it at times, this one least ({rejected[name]:.0%} of what was looked at)"
        )
        return Anchor(name, reason, neighbours, levels(name), {n: s for n, s in rejected.items() if n != name})
    raise UnlearnError(
        f"Nothing near '{request.concept}' could take its place without drawing it; name one under 'Draw instead'."
    )


def measured_distances(
    run: Run, probed: Sequence[Scene], latents: TargetLatents, names: Sequence[str]
) -> tuple[Tensor, Callable[[str], Levels]]:
    """(mean score distance of each candidate, `[names]`; what gives one's at all noise levels).

    probed: scenes of the target; latents: pictures of them.
    """
    request, host, recipe = run.request, run.host, run.request.recipe

    def encoded(name: str) -> Conditioning:
        return host.encode([mapped(s, name, request.kind, request.words).prompt for s in probed])

    def at_all(asked: Sequence[str]) -> Tensor:
        drawn, sigmas = latents.rows(0, len(probed)), probe_levels(host, recipe.anchor_levels)
        probe = Probe.make(host, drawn, sigmas, request.config.seed)
        return score_distances(host, probe, latents.asked, [encoded(n) for n in asked], run.job.tick)

    if recipe.group:
        rows = [latents.asked, *map(encoded, names)]
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


def share_read_as_target(run: Run, probed: Sequence[Scene], name: str, general: bool) -> float:
    """The gate: share of a candidate's own pictures that the model reads as the target, 0..1.

    general: the candidate stands for many things; twice as many pictures are drawn, and none may read as the target.
    Of the first `Recipe.anchor_glance` pictures alone where these are more than may be. Of a word of the vocabulary
    also the share that `share_named` finds, where that is more than may be.
    """
    request, host = run.request, run.host
    config, recipe = request.config, request.recipe
    rows = (list(probed) * recipe.anchor_pictures)[: recipe.anchor_pictures] * (2 if general else 1)
    allowed = 0.0 if general else recipe.anchor_gate
    targets = host.encode([s.prompt for s in rows])
    candidates = host.encode([mapped(s, name, request.kind, request.words).prompt for s in rows])
    sampler = Sampler(host, recipe.anchor_steps, config.guidance, run.job.pulse)
    look = by_groups if recipe.group else by_glance
    share, drawn = look(run, sampler, (targets, candidates), allowed * len(rows))
    if share <= allowed and request.vocabulary and request.kind != "style":
        named = share_named(run, drawn, rows[: len(drawn)])
        return named if named > recipe.anchor_named else share
    return share


def share_named(run: Run, drawn: Tensor, rows: Sequence[Scene]) -> float:
    """Share of a candidate's pictures `[b, c, h, w]` that the target's name fits better than no name at all, 0..1.

    A picture always reads as what was asked for, whatever it shows. But a wrong name fits it worse than none, and the
    name of what it shows fits better: a ukulele that is a guitar is told so. rows: the target's scenes.
    """
    request, host = run.request, run.host
    asked = [[s.prompt for s in rows], [mapped(s, REMOVED, request.kind, request.words).prompt for s in rows]]
    readings = [host.encode(prompts) for prompts in asked]
    with torch.no_grad():
        read = read_as(host, drawn, readings, request.recipe.reading_levels, request.config.seed, run.job.pulse)
    return float((read == 0).float().mean())


def by_glance(
    run: Run, sampler: Sampler, rows: tuple[Conditioning, Conditioning], allowed: float
) -> tuple[float, Tensor]:
    """The gate over all pictures, or over the first few where these are too many: (share, pictures).

    rows: the target's prompts and the candidate's, a row a picture. allowed: most pictures that may read as the target.
    """
    recipe, seed, (targets, candidates) = run.request.recipe, run.request.config.seed, rows
    drawn: list[Tensor] = []
    for part in (range(recipe.anchor_glance), range(recipe.anchor_glance, len(targets))):
        drawn.append(sampler.draw(candidates[list(part)], seed + 3, first=part.start))
        if not torch.isfinite(drawn[-1]).all():
            raise TrainingFailed(not_finite("draws"))
        readings = [c[list(range(part.stop))] for c in (targets, candidates)]
        with torch.no_grad():
            read = read_as(run.host, torch.cat(drawn), readings, recipe.reading_levels, seed, run.job.pulse) == 0
        if read.sum() > allowed:
            break
    return float(read.float().mean()), torch.cat(drawn)


def by_groups(
    run: Run, sampler: Sampler, rows: tuple[Conditioning, Conditioning], allowed: float
) -> tuple[float, Tensor]:
    """The gate as a sequential test: groups of pictures until it is clear that they are not the target's, or are.

    Arguments and answer as of `by_glance`.
    """
    recipe, seed, (targets, candidates) = run.request.recipe, run.request.config.seed, rows
    reader = Reader(run.host, run.request.words, recipe.reading_levels, seed, run.job.pulse)
    margins: list[float] = []
    pictures: list[Tensor] = []
    while len(margins) < len(targets):
        part = list(range(len(margins), min(len(margins) + recipe.group, len(targets))))
        drawn = sampler.draw(candidates[part], seed + 3, first=part[0])
        if not torch.isfinite(drawn).all():
            raise TrainingFailed(not_finite("draws"))
        pictures.append(drawn)
        read = Drawn(reader, drawn, [targets[part], candidates[part]], [number_of("gate", seed, i) for i in part])
        margins += read.margins(HowToRead.by(recipe))
        hits, near = (sum(not m < mark for m in margins) for mark in (0.0, -recipe.doubtful_margin))
        # what stands for many things has to be looked at for longer
        shares = recipe.gate_shares if allowed else recipe.near_shares
        if hits > allowed or SequentialTest(*shares, recipe.error).answer(near, len(margins)) is False:
            break
    return hits / len(margins), torch.cat(pictures)


def nothing_left(request: Request) -> UnlearnError:
    """What is said where neither the lists nor the artist name anything."""
    return UnlearnError(
        f"The word list has nothing to take the place of '{request.concept}'; name it under 'Draw instead'."
    )
