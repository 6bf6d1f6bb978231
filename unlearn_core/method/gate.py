"""The gate of candidate anchors: whether what a candidate draws is read as the target."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import TrainingFailed, not_finite
from ..evaluate.diffusion_classifier import read_as
from ..evaluate.drawn import Drawn
from ..evaluate.evaluator import Reader
from ..evaluate.reading import HowToRead
from ..evaluate.sequential import SequentialTest
from ..host import Conditioning
from ..sampling import Sampler
from ..saved_work import number_of
from ..words.prompts import REMOVED, Scene, mapped
from .run import Run


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
