"""What a request's check asks: the target's held-out prompts, and concepts that are to be preserved."""

from __future__ import annotations

from ..evaluate.evaluator import SKIPPED, Evaluator, NoCheck, Questions, Reader
from ..sampling import Sampler
from ..words.prompts import scenes, spread
from .anchor import Anchor
from .run import Run


def evaluator_for(run: Run, anchor: Anchor) -> Evaluator | NoCheck:
    """The evaluator of a run, `SKIPPED` where the check is off."""
    request = run.request
    config, recipe, rest = request.config, request.recipe, request.rest
    if not config.check:
        return SKIPPED
    far = spread(rest.all_objects, recipe.checked_far, config.seed + 5)
    asked = dict.fromkeys([*anchor.neighbours[: recipe.checked_near], *far, *config.keep])
    count = recipe.preserved_pictures
    preserved = {w: tuple(scenes(rest, w, rest.kind(w), count, config.seed + 6)) for w in asked}
    questions = Questions(request.concept, request.kind, anchor.name, request.held_out, preserved)
    sampler = Sampler(run.host, config.sampling_steps, config.guidance, run.job.pulse)
    reader = Reader(run.host, request.words, recipe.reading_levels, config.seed, run.job.pulse)
    return Evaluator(questions, sampler, reader, run.teacher, recipe, run.job)
