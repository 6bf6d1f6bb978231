"""Settings of the core as fields of the page; labels, help, bounds and defaults are the core's."""

from __future__ import annotations

import dataclasses
from typing import Any

import gradio as gr

from ..unlearn_core import settings
from .actions import QUALITIES

NOT_OFFERED = {"on_stop"}
"""The two stop buttons ask for it when it matters."""
MOST_SLIDER = 10_000
"""Beyond that a slider is no help."""
FOLDED = {name for values in QUALITIES.values() for name in values}
"""What a quality sets is shown among the advanced settings."""
PREFIX = "unlearn_"

MAJOR = int(gr.__version__.split(".")[0])
FREE: dict[str, Any] = {} if MAJOR < 4 else {"concurrency_limit": None}
"""For events that last: several pages may look at one job."""


def offered() -> list[dataclasses.Field]:
    """All settings that the page shows, in the core's order."""
    return [f for f in settings() if f.name not in NOT_OFFERED]


def is_folded(f: dataclasses.Field) -> bool:
    """Whether few people need it."""
    return bool(f.metadata.get("advanced")) or f.name in FOLDED


def field(f: dataclasses.Field) -> Any:
    """The component of one setting."""
    facts = f.metadata
    text = facts["help"] + (f" In {facts['unit']}." if "unit" in facts else "")
    common = {"label": facts["label"], "elem_id": PREFIX + f.name}
    if "choices" in facts:
        return gr.Dropdown(list(facts["choices"]), value=f.default, info=text, **common)
    if isinstance(f.default, bool):
        return gr.Checkbox(value=f.default, info=text, **common)
    if isinstance(f.default, int) and facts["high"] <= MOST_SLIDER:
        return gr.Slider(facts["low"], facts["high"], value=f.default, step=1, info=text, **common)
    if isinstance(f.default, (int, float)):
        precision = 0 if isinstance(f.default, int) else None
        return gr.Number(value=f.default, precision=precision, info=text, **common)
    if isinstance(f.default, tuple):
        return gr.Textbox(value="", info=text + " Commas between them.", lines=1, **common)
    return gr.Textbox(value=f.default, info=text, lines=1, **common)
