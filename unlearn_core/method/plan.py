"""What a run is expected to cost, in forward passes, so that the progress bar is honest."""

from __future__ import annotations

from .request import Request

USUAL = 9
"""Pictures of the target after which its verdict is usually known."""
CLOSER = 3
"""Pictures of the target on which the nearest candidates are compared again."""
READ = 4
"""Readings of a picture of the target; one of what is preserved takes twice as many."""
BROAD = 25
"""Prompts that are asked for beside the listed concepts."""

ROUNDS = 6
"""Most times that words are learned and trained against, before the last attack (see `deep`)."""
ATTACK_STEPS = 30
"""Steps of an attack."""
ATTEMPTS = 2
"""Attacks from different starts that have to fail, one after the other, for the work to be done."""
ATTACK_PICTURES = 8
"""Pictures that are drawn with the words of an attack to see whether it succeeds."""
DEEP_STEPS = 30
"""Training steps of a round, each after one more step of the attack."""

UNASKED_ROUNDS, UNASKED_STEPS = 8, 60
"""Most times that pictures are drawn and trained on so that the target appears nowhere (see `everywhere`), and steps
of each."""
BROAD_FIRST, BROAD_MORE, BROAD_AGAIN = 64, 96, 128
"""Pictures of prompts that do not name the target: drawn first, then twice where it was seen, then after each round."""
BROAD_READ = 24
"""Forward passes of reading one of them."""


def expected(request: Request) -> dict[str, float]:
    """Forward passes of each phase when the closed form is enough."""
    config, recipe = request.config, request.recipe
    if not config.check:
        return {"choosing": 1.0, "editing": 4.0}
    if recipe.group:
        return expected_in_groups(request)
    looked = look(request)
    phases = {
        "sampling": recipe.probe_prompts * config.sampling_steps,
        "choosing": 40 * recipe.probe_prompts * recipe.anchor_levels,
        "before": looked,
    }
    return phases | {"editing": looked, "after": looked}


def expected_in_groups(request: Request) -> dict[str, float]:
    """The same for a check that stops when it knows, as it usually does."""
    recipe, steps = request.recipe, request.config.sampling_steps
    concepts = recipe.checked_near + recipe.checked_far
    return {
        "sampling": (recipe.halving_pictures + CLOSER) * steps,
        "choosing": 2 * recipe.halving_pictures * (recipe.rivals + 3) + 36,
        "before": recipe.shown // 2 * (2 * steps + READ) + concepts * (2 * steps + 2 * READ),
        "editing": look(request),
        "after": concepts * 2 * steps + 2 * BROAD,
    }


def expected_training(request: Request) -> dict[str, float]:
    """Forward passes of what comes when it is not, the last look included."""
    config = request.config
    drawn = request.recipe.training_prompts * config.latents_per_prompt * config.sampling_steps
    steps = config.steps * config.batch * 2 * 4
    return {"replay": 4 * drawn, "training": steps, "after": look(request)}


def expected_deep(request: Request) -> dict[str, float]:
    """Forward passes of what makes a model resist learned words, at its longest, the last look included."""
    recipe, config = request.recipe, request.config
    drawn = recipe.training_prompts * config.latents_per_prompt * config.sampling_steps
    attacked = (ROUNDS + ATTEMPTS) * (3 * ATTACK_STEPS * config.batch + 4 * ATTACK_PICTURES * config.sampling_steps)
    trained = ROUNDS * DEEP_STEPS * config.batch * 3 * 3
    return {"replay": 4 * drawn, "training": float(attacked + trained), "after": look(request)}


def expected_everywhere(request: Request) -> dict[str, float]:
    """Forward passes of what makes the target appear nowhere, at its longest, the last look included."""
    recipe, config = request.recipe, request.config
    named = (recipe.training_prompts + recipe.replay_erased // 4) * config.sampling_steps
    pictures = BROAD_FIRST + 2 * BROAD_MORE + UNASKED_ROUNDS * BROAD_AGAIN
    trained = UNASKED_ROUNDS * UNASKED_STEPS * config.batch * 2 * 3
    drawn = pictures * (2 * config.sampling_steps + BROAD_READ)
    return {"replay": float(named), "training": float(drawn + trained), "after": look(request)}


def expected_later(request: Request) -> float:
    """Forward passes of what is asked for beyond that: in depth, or everywhere."""
    if request.config.depth == "deep":
        return sum(expected_deep(request).values())
    return sum(expected_everywhere(request).values()) if request.config.scope == "everywhere" else 0.0


def look(request: Request) -> float:
    """Forward passes of one look of the check: pictures of the target and of what is preserved, drawn and read.

    Of one that stops when it knows: of the target alone, since the last look goes on with what was seen.
    """
    recipe, steps = request.recipe, request.config.sampling_steps
    if recipe.group:
        return USUAL * (2 * steps + READ)
    return 2 * recipe.held_out_prompts * recipe.rounds * 2 * 2 * request.config.sampling_steps
