"""Settings of the core as fields of the page; labels, help, bounds and defaults are the core's."""

from __future__ import annotations

import dataclasses
from typing import Any

import gradio as gr

from ..unlearn_core import settings

NOT_OFFERED = {"on_stop"}
"""The two stop buttons ask for it when it matters."""
MOST_SLIDER = 10_000
"""Beyond that a slider is no help."""
FOLDED = {"edit": "Edit and check", "training": "Training, if the fast edit is not enough"}
"""Groups of settings that few people need, with their headings."""
PREFIX = "unlearn_"


def fields_of(group: str) -> dict[str, Any]:
    """The components of a group of settings, laid out in the open container, by the settings' names."""
    return {f.name: field(f) for f in settings() if f.metadata["group"] == group and f.name not in NOT_OFFERED}


def folded_fields() -> dict[str, Any]:
    """The components of all groups that few people need, each under its heading."""
    fields: dict[str, Any] = {}
    for group, heading in FOLDED.items():
        with gr.Accordion(heading, open=False, elem_id=PREFIX + group):
            fields |= fields_of(group)
    return fields


def field(f: dataclasses.Field) -> Any:
    """The component of one setting."""
    facts = f.metadata
    common = {"label": facts["label"], "info": facts["help"], "elem_id": PREFIX + f.name}
    if "choices" in facts:
        return gr.Radio(list(facts["choices"]), value=f.default, **common)
    if isinstance(f.default, bool):
        return gr.Checkbox(value=f.default, **common)
    if isinstance(f.default, int) and facts["high"] <= MOST_SLIDER:
        return gr.Slider(facts["low"], facts["high"], value=f.default, step=facts["step"], **common)
    if isinstance(f.default, (int, float)):
        # bounds are left to the core, which refuses with a sentence of its own
        precision = 0 if isinstance(f.default, int) else None
        return gr.Number(value=f.default, precision=precision, step=facts["step"], **common)
    if isinstance(f.default, tuple):
        return gr.Textbox(value="", lines=1, **{**common, "info": facts["help"] + " Separate them by commas."})
    return gr.Textbox(value=f.default, lines=1, **common)
