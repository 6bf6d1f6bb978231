"""What a run is expected to cost, in forward passes, so that the progress bar is honest."""

from __future__ import annotations

from .request import Request


def expected(request: Request) -> dict[str, float]:
    """Forward passes of each phase when the closed form is enough."""
    config, recipe = request.config, request.recipe
    if not config.check:
        return {"choosing": 1.0, "editing": 4.0}
    looked = look(request)
    phases = {
        "sampling": recipe.probe_prompts * config.sampling_steps,
        "choosing": 40 * recipe.probe_prompts * recipe.anchor_levels,
        "before": looked,
    }
    return phases | {"editing": looked, "after": looked}


def expected_training(request: Request) -> dict[str, float]:
    """Forward passes of what comes when it is not, the last look included."""
    config = request.config
    drawn = request.recipe.training_prompts * config.latents_per_prompt * config.sampling_steps
    steps = config.steps * config.batch * 2 * 4
    return {"replay": 4 * drawn, "training": steps, "after": look(request)}


def look(request: Request) -> float:
    """Forward passes of one look of the check: pictures of the target and of what is preserved, drawn and read."""
    recipe = request.recipe
    return 2 * recipe.held_out_prompts * recipe.rounds * 2 * 2 * request.config.sampling_steps
