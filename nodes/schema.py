"""Settings as node inputs, made from one table: `unlearn_core.settings()`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io

from ..unlearn_core import ForgetConfig, Stack, settings
from ..unlearn_core.config import CHECK_SWITCH, RENAMED, TRAINING
from ..unlearn_core.method.wishes import read_requests
from ..unlearn_core.words.wish import Wish

NOT_OFFERED = {"on_stop"}
"""An interrupted workflow has no outputs, so nothing of it could be kept."""

StackType = io.Custom("UNLEARN_STACK")
SettingsType = io.Custom("UNLEARN_SETTINGS")


def setting_inputs(*groups: str) -> list[io.Input]:
    """One input for each setting of some groups, in the order of the table."""
    return [setting_input(f) for f in settings() if f.metadata["group"] in groups and f.name not in NOT_OFFERED]


def setting_input(f: dataclasses.Field) -> io.Input:
    """The input of one setting, with its label, help, bounds and default; all but the concept may be left out."""
    facts = f.metadata
    note = " (only if it trains)" if facts["group"] == TRAINING else ""
    unit = f" In {facts['unit']}." if "unit" in facts else ""
    common: dict[str, Any] = {
        "id": f.name,
        "display_name": facts["label"] + note,
        "tooltip": facts["help"] + unit,
        "optional": f.name != "concept",
    }
    if "choices" in facts:
        return io.Combo.Input(options=list(facts["choices"]), default=f.default, **common)
    if isinstance(f.default, bool):
        return io.Boolean.Input(default=f.default, **common)
    if isinstance(f.default, (int, float)):
        common |= {"min": facts["low"], "max": facts["high"], "step": facts["step"], "default": f.default}
        if isinstance(f.default, float):
            return io.Float.Input(**common)
        # A seed that the page changes after each run would make a new delta each time.
        return io.Int.Input(control_after_generate=False, **common)
    if isinstance(f.default, tuple):
        common["tooltip"] += " Commas between them."
    return io.String.Input(default="", **common)


def strength(name: str, optional: bool = False) -> io.Input:
    """An input for a delta's strength."""
    tooltip = (
        "How strongly the delta acts. 1: the concept is forgotten. 0: the MODEL is as it was. "
        "It is more a switch than a dial: a quarter does next to nothing, three quarters nearly all of it."
    )
    return io.Float.Input(
        name, display_name="Strength", default=1.0, min=-2.0, max=2.0, step=0.05, tooltip=tooltip, optional=optional
    )


def understood(values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of some named values that are settings, by today's names or by those of earlier versions."""
    known = {f.name for f in settings()} - NOT_OFFERED | {*RENAMED, CHECK_SWITCH}
    return {name: value for name, value in values.items() if name in known}


def requests_from(words_file: str | None, stack: Stack, *parts: Mapping[str, Any]) -> tuple[Wish, list[ForgetConfig]]:
    """The requests that named values make, later parts over earlier ones; raises `BadSetting`. See `read_requests`."""
    merged: dict[str, Any] = {}
    for part in parts:
        merged |= understood(part)
    return read_requests(merged, words_file, stack)
