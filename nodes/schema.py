"""Settings as node inputs: one table, `unlearn_core.settings()`, for every door."""

from __future__ import annotations

import dataclasses
from typing import Any

from comfy_api.latest import io

from ..unlearn_core import ForgetConfig, settings

NOT_OFFERED = {"on_stop"}
"""An interrupted workflow has no outputs, so nothing of it could be kept."""

STEP = 1e-5
"""Of numbers that are not whole; the smallest rates are a few of it."""

StackType = io.Custom("UNLEARN_STACK")


def setting_inputs() -> list[io.Input]:
    """One input for each setting, those that few people need folded away where the front end can fold."""
    return [setting_input(f) for f in settings() if f.name not in NOT_OFFERED]


def setting_input(f: dataclasses.Field) -> io.Input:
    """The input of one setting, with its label, help, bounds and default."""
    facts = f.metadata
    unit = f" In {facts['unit']}." if "unit" in facts else ""
    common: dict[str, Any] = {"id": f.name, "display_name": facts["label"], "tooltip": facts["help"] + unit}
    if "choices" in facts:
        made = io.Combo.Input(options=list(facts["choices"]), default=f.default, **common)
    elif isinstance(f.default, bool):
        made = io.Boolean.Input(default=f.default, **common)
    elif isinstance(f.default, int):
        # a seed that the page changes after each run would train anew each time
        made = io.Int.Input(
            default=f.default, min=facts["low"], max=facts["high"], control_after_generate=False, **common
        )
    elif isinstance(f.default, float):
        made = io.Float.Input(default=f.default, min=facts["low"], max=facts["high"], step=STEP, **common)
    else:
        if isinstance(f.default, tuple):
            common["tooltip"] += " Commas between them."
        made = io.String.Input(default="", **common)
    if facts.get("advanced"):
        made.optional = True
        # not a parameter in the oldest API that is supported, but passed on by it
        made.extra_dict["advanced"] = True
    return made


def strength(name: str, optional: bool = False) -> io.Input:
    """An input for a delta's strength."""
    tooltip = "1 forgets, 0 leaves the MODEL alone."
    return io.Float.Input(name, default=1.0, min=-2.0, max=2.0, step=0.05, tooltip=tooltip, optional=optional)


def config_from(values: dict[str, Any]) -> ForgetConfig:
    """The request that a node's values make; raises `BadSetting`."""
    return ForgetConfig.from_flat({f.name: values[f.name] for f in settings() if f.name in values})
