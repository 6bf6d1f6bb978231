"""The Before / After tab: any prompts without and with the stack."""

from __future__ import annotations

from typing import Any

import gradio as gr

from . import html
from .job_polling import NOW, JobPolling, told
from .jobs import View
from .results import PreviewResult
from .service import ASKED, PREVIEW, Service

IDLE = "Write prompts and press Generate. Each is generated without and with the stack, from the same noise."


def compare_tab(service: Service, page: Any) -> Any:
    """Lay it out in the open container and connect its events; returns the field that names checkpoint and stack."""
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            base = gr.HTML("")
            prompts = gr.Textbox(
                value="", lines=5, label="Prompts", info="One a line.", elem_id="unlearn_compare_prompts"
            )
            with gr.Row():
                seed = small_number(0, "Seed", precision=0)
                steps = small_number(20, "Steps", precision=0)
                guidance = small_number(3.0, "Guidance", step=0.5)
        with gr.Column(scale=5, min_width=320):
            with gr.Row():
                generate = gr.Button("Generate", variant="primary", elem_id="unlearn_generate")
                stop = gr.Button("Stop", interactive=False, elem_id="unlearn_generate_stop")
            problem = gr.HTML("", elem_id="unlearn_generate_problem")
            status = gr.HTML(html.status(None, IDLE), elem_id="unlearn_generate_status")
            result = gr.HTML("", elem_id="unlearn_generate_result")
            polling = JobPolling(service, PREVIEW, shown)

    def begin(*values: Any) -> None:
        service.preview(*values)

    def fill() -> list:
        asked = service.forms.get(PREVIEW, {})
        return [gr.update(value=asked[name]) if name in asked else gr.update() for name in ASKED]

    def end() -> None:
        if job := service.jobs.newest(PREVIEW):
            job.stop()

    inputs = [prompts, seed, steps, guidance]
    page.load(fill, None, inputs, **NOW)
    polling.connect(page, [status, result, generate, stop])
    polling.after(generate.click(told(begin), inputs, [problem], **NOW))
    polling.after(stop.click(told(end), None, [problem], **NOW))
    return base


def small_number(value: float, label: str, **facts: Any) -> Any:
    """A field for a number, of which three fit beside each other."""
    return gr.Number(value=value, label=label, min_width=80, elem_id=f"unlearn_compare_{label.lower()}", **facts)


def shown(view: View | None) -> list:
    """Status, result and the two buttons."""
    busy = view is not None and not view.finished
    return [html.status(view, IDLE), outcome(view), gr.update(interactive=not busy), gr.update(interactive=busy)]


def outcome(view: View | None) -> str:
    """The pictures of a finished job and where they were saved, or ""."""
    made = view.result if view else None
    if not isinstance(made, PreviewResult):
        return ""
    empty = "" if any(p.after for p in made.pairs) else "The stack is empty, so this is the model as it is."
    return html.notice(empty) + html.comparison({"": made.pairs}) + html.place(made.file, "Saved as:")
