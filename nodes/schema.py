"""Settings as node inputs, made from one table: `unlearn_core.settings()`."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io

from ..unlearn_core import ForgetConfig, Stack, settings
from ..unlearn_core.config import CHECK_SWITCH, RENAMED, TRAINING
from ..unlearn_core.method.wishes import read_requests
from ..unlearn_core.words.wish import Wish
from .model_stack import term_lists

NOT_OFFERED = {"on_stop"}
"""An interrupted workflow has no outputs, so nothing of it could be kept."""
ALIASES = ("unlearn", "forget", "erase", "remove", "negative", "concept", "LoRA")
"""What people type into the node search who do not know this pack's names."""

StackType = io.Custom("UNLEARN_STACK")
SettingsType = io.Custom("UNLEARN_SETTINGS")


def schema(**facts: Any) -> io.Schema:
    """A node's schema in this pack's category; facts that an older ComfyUI does not know are left out."""
    known = inspect.signature(io.Schema).parameters
    facts = {"category": "unlearning", "search_aliases": list(ALIASES), **facts}
    return io.Schema(**{name: value for name, value in facts.items() if name in known})


def setting_inputs(*groups: str) -> list[io.Input]:
    """One input for each setting of some groups, in the order of the table."""
    return [setting_input(f) for f in settings() if f.metadata["group"] in groups and f.name not in NOT_OFFERED]


def setting_input(f: dataclasses.Field) -> io.Input:
    """The input of one setting, with its label, help, bounds and default; all but the concept may be left out."""
    facts = f.metadata
    trains = facts["group"] == TRAINING
    common: dict[str, Any] = {
        "id": f.name,
        "display_name": facts["label"] + (" (only if it trains)" if trains else ""),
        "tooltip": facts["help"],
        "optional": f.name != "concept",
    }
    made = input_of(f, common)
    if trains:
        # folded away; older versions take it only in this way
        made.extra_dict = {**made.extra_dict, "advanced": True}
    return made


def input_of(f: dataclasses.Field, common: dict[str, Any]) -> io.Input:
    """The input of the setting's type. common: what all types have."""
    facts = f.metadata
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


def strength(name: str, label: str = "Strength", optional: bool = False) -> io.Input:
    """An input for a delta's strength."""
    tooltip = (
        "How strongly the delta acts. 1: the concept is forgotten. 0: the MODEL is as it was. "
        "It is more a switch than a dial: a quarter does next to nothing, three quarters nearly all of it."
    )
    return io.Float.Input(
        name, display_name=label, default=1.0, min=-2.0, max=2.0, step=0.05, tooltip=tooltip, optional=optional
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
    return read_requests(merged, words_file, stack, term_lists())
