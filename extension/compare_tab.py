"""The Before / After tab: any prompts without and with the stack."""

from __future__ import annotations

from typing import Any, NamedTuple

import gradio as gr

from . import views
from .actions import DRAW, Desk, Drawn
from .form import FREE
from .jobs import View
from .watching import said, watcher

IDLE = "Write prompts and press Draw: each is drawn with the same noise without and with the stack."


class Parts(NamedTuple):
    """What the other tabs connect to."""

    teacher: Any


def compare_tab(desk: Desk, page: Any) -> Parts:
    """Lay it out in the open container and connect its events."""
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            teacher = gr.HTML("")
            prompts = gr.Textbox(
                value="", lines=5, label="Prompts", info="One a line.", elem_id="unlearn_compare_prompts"
            )
            with gr.Row():
                seed = gr.Number(value=0, precision=0, label="Seed", elem_id="unlearn_compare_seed")
                steps = gr.Number(value=20, precision=0, label="Steps", elem_id="unlearn_compare_steps")
                guidance = gr.Number(value=3.0, label="Guidance", elem_id="unlearn_compare_guidance")
        with gr.Column(scale=3, min_width=360):
            with gr.Row():
                draw = gr.Button("Draw", variant="primary", elem_id="unlearn_draw")
                stop = gr.Button("Stop", interactive=False, elem_id="unlearn_draw_stop")
            problem = gr.HTML("", elem_id="unlearn_draw_problem")
            status = gr.HTML(views.status(None, IDLE), elem_id="unlearn_draw_status")
            result = gr.HTML("", elem_id="unlearn_draw_result")

    def begin(*values: Any) -> None:
        desk.draw(*values)

    def end() -> None:
        if job := desk.jobs.newest(DRAW):
            job.stop()

    def show(view: View | None) -> list:
        busy = view is not None and not view.finished
        return [
            views.status(view, IDLE),
            outcome(view),
            gr.update(interactive=not busy),
            gr.update(interactive=busy),
        ]

    shown, watch = [status, result, draw, stop], watcher(desk, DRAW, show)
    begun = draw.click(said(begin), [prompts, seed, steps, guidance], [problem], queue=False)
    begun.then(watch, None, shown, show_progress="hidden", **FREE)
    stop.click(said(end), None, [problem], queue=False)
    page.load(watch, None, shown, show_progress="hidden", **FREE)
    return Parts(teacher)


def outcome(view: View | None) -> str:
    """The pictures of a finished job and where they were saved, or ""."""
    made = view.result if view else None
    if not isinstance(made, Drawn):
        return ""
    alone = "" if any(p.after for p in made.pairs) else views.notice("The stack is empty: this is the model as it is.")
    return alone + views.comparison(made.pairs) + views.tag(str(made.file), "Saved as:")
