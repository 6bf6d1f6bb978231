"""What a request's check asks: the target's held-out prompts, and concepts that are to be preserved."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import islice

from ..evaluate.evaluator import Evaluator, NoCheck, Questions, Reader
from ..evaluate.glance import Glance
from ..evaluate.outside import Outside
from ..evaluate.stepwise import StepwiseEvaluator
from ..evaluate.unharmed import RememberingSampler, Unharmed
from ..sampling import Sampler
from ..words.prompts import fill, mapped, names, scenes, spread
from .anchor import Anchor, is_spelled_out
from .led import led
from .run import Run

PLAIN = "", "a picture", "a photo", "a drawing"
STYLED = "{an o} in {s} style", "a picture in {s} style"
UNLISTED_STYLES = "soft", "bold", "simple", "old"
UNLISTED_THINGS = "toy", "room", "stone"
"""Prompts outside the lists: words that say little, and how a style is asked for."""
OTHER_STYLES = 3
"""Styles of the lists that are asked for too."""


def evaluator_for(run: Run, anchor: Anchor) -> Evaluator | NoCheck:
    """The evaluator of a run, a `Glance` where the check is off."""
    request = run.request
    config, recipe, rest = request.config, request.recipe, request.rest
    if not config.check:
        return glance_for(run, anchor)
    far = far_concepts(run)
    asked = dict.fromkeys([*anchor.neighbours[: recipe.checked_near], *far, *config.keep])
    count = recipe.preserved_pictures
    preserved = {w: tuple(scenes(rest, w, rest.kind(w), count, config.seed + 6)) for w in asked}
    questions = Questions(request.concept, request.kind, anchor.name, request.held_out, preserved)
    sampler = Sampler(run.host, config.sampling_steps, config.guidance, run.job.pulse)
    reader = Reader(run.host, request.words, recipe.reading_levels, config.seed, run.job.pulse)
    outside = outside_for(run, far, preserved)
    asked_of = questions, sampler, reader, run.teacher, recipe, run.job, outside
    if not recipe.group:
        return Evaluator(*asked_of)
    drawing = RememberingSampler(sampler, config.seed, lambda: run.student.off(), run.remembered)
    unharmed = Unharmed(questions, reader, run.teacher, recipe, drawing)
    pairs = [(s.prompt, mapped(s, anchor.name, request.kind, request.words).prompt) for s in request.held_out]
    return StepwiseEvaluator(*asked_of, unharmed=unharmed, weights=run.learned, led=lambda: led(run, pairs))


def glance_for(run: Run, anchor: Anchor) -> Glance:
    """What a quick run looks at: some held-out prompts, and the same with the anchor in the target's place."""
    request = run.request
    some = request.held_out[: request.recipe.trail_prompts]
    own = tuple(s.prompt for s in some)
    goal = tuple(mapped(s, anchor.name, request.kind, request.words).prompt for s in some)
    return Glance(run.host, own, goal, run.teacher, request.recipe, request.config.seed + 8)


def far_concepts(run: Run) -> list[str]:
    """Things from anywhere in the list; of one that is not the checkpoint's own, what its text encoder has whole."""
    request, own = run.request, bool(run.host.words_file)
    count, seed, things = request.recipe.checked_far, request.config.seed + 5, request.rest.all_objects
    if request.recipe.group:
        # in an order that does not depend on what is to go, so that their pictures may be remembered
        every = request.words.all_objects
        mixed = [t for t in spread(every, len(every), seed) if t in things]
    elif own:
        return spread(things, count, seed)
    else:
        mixed = spread(things, len(things), seed)
    whole = mixed if own else list(islice((t for t in mixed if not is_spelled_out(run.host, t)), count))
    return whole[:count] or mixed[:count]


def outside_for(run: Run, far: Sequence[str], asked: Collection[str]) -> Outside:
    """Prompts that name neither what goes, nor what is to be preserved, nor anything of a list, and other styles'.

    far: things of which the first is drawn in these styles; a neighbour of the target may share its tokens.
    asked: the concepts that the check draws pictures of.
    """
    request = run.request
    recipe, rest = request.recipe, request.rest
    thing = far[0] if far else "thing"
    styles = (*rest.styles, *request.general.without(request.moving).styles)
    others = spread([s for s in dict.fromkeys(styles) if s not in asked], OTHER_STYLES, request.config.seed + 7)
    found = [*PLAIN, *(fill(t, thing, s) for s in (*others, *UNLISTED_STYLES) for t in STYLED)]
    found += [fill("{an o}", o, "") for o in UNLISTED_THINGS]
    prompts = [p for p in dict.fromkeys(found) if not any(names(p, m) for m in request.moving)]
    targets = [s.prompt for s in request.held_out[: recipe.trail_prompts]]
    paths = Outside(prompts, targets, recipe.trail_steps, lambda: run.student.off())
    if not recipe.group:
        return paths
    return replace(paths, remembered=run.remembered, clear=recipe.outside_clear * recipe.outside_harmed)
