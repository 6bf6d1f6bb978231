"""Whether a MODEL answers through more than its weights: then no hash and no single answer tells it from another."""

from __future__ import annotations

from typing import Any

GUIDANCE_ONLY = {
    "sampler_cfg_function",
    "sampler_post_cfg_function",
    "sampler_pre_cfg_function",
    "sampler_calc_cond_batch_function",
    "disable_cfg1_optimization",
    "denoise_mask_function",
}
"""Options of a MODEL that act where ComfyUI's own samplers add guidance or mask, which the core does by itself."""


def has_functions(model) -> bool:
    """Whether there is more on a MODEL than weights, their patches and its sampling: FreeU, bypass LoRAs."""
    options = {name: value for name, value in model.model_options.items() if name not in GUIDANCE_ONLY}
    objects = {name: value for name, value in model.object_patches.items() if name != "model_sampling"}
    others = (getattr(model, name, {}) for name in ("injections", "weight_wrapper_patches", "callbacks"))
    return any(map(holds_anything, (options, objects, *others)))


def holds_anything(value: Any) -> bool:
    """Whether there is more in nested tables and lists than empty ones, which ComfyUI makes beforehand."""
    if isinstance(value, dict):
        return any(map(holds_anything, value.values()))
    return bool(value) if isinstance(value, (list, tuple, set)) else True
