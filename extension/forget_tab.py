"""The Forget tab: what to forget on the left, what happens on the right."""

from __future__ import annotations

from typing import Any, NamedTuple

import gradio as gr

from . import views
from .actions import FORGET, QUALITIES, Desk, Made, defaults
from .form import FREE, field, is_folded, offered
from .jobs import View
from .watching import said, watcher

IDLE = "Name something that this model shall no longer draw, and press Start."


class Parts(NamedTuple):
    """What the other tabs connect to. news: gradio events after which the stack may be another one."""

    news: list
    teacher: Any


def forget_tab(desk: Desk, page: Any) -> Parts:
    """Lay it out in the open container and connect its events."""
    fields: dict[str, Any] = {}
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            teacher = gr.HTML("", elem_id="unlearn_teacher")
            for f in offered():
                if not is_folded(f):
                    fields[f.name] = field(f)
            quality = gr.Radio(
                list(QUALITIES),
                value="normal",
                label="Quality",
                info="Quick looks at nothing. Sets Check, most steps and pictures a prompt, under Advanced.",
                elem_id="unlearn_quality",
            )
            prompts = gr.Textbox(
                value="",
                lines=2,
                label="Show me",
                info="Prompts that are drawn before and after, one a line; the tool adds its own.",
                elem_id="unlearn_prompts",
            )
            with gr.Accordion("Advanced", open=False, elem_id="unlearn_advanced"):
                for f in offered():
                    if is_folded(f):
                        fields[f.name] = field(f)
        with gr.Column(scale=3, min_width=360):
            with gr.Row():
                start = gr.Button("Start", variant="primary", elem_id="unlearn_start")
                keep = gr.Button("Stop and keep", interactive=False, elem_id="unlearn_stop_keep")
                discard = gr.Button("Stop and discard", interactive=False, elem_id="unlearn_stop_discard")
            problem = gr.HTML("", elem_id="unlearn_problem")
            status = gr.HTML(views.status(None, IDLE), elem_id="unlearn_status")
            live = gr.HTML("", elem_id="unlearn_live")
            result = gr.HTML("", elem_id="unlearn_result")

    names = list(fields)

    def begin(own: str, *values: Any) -> None:
        desk.forget(dict(zip(names, values, strict=True)), own)

    def stop(discarding: bool) -> str | None:
        job = desk.jobs.newest(FORGET)
        if job is None or job.view().finished:
            return "Nothing is running."
        return job.stop(discarding)

    def show(view: View | None) -> list:
        busy = view is not None and not view.finished
        return [
            views.status(view, IDLE),
            views.live(view, view.title.partition("'")[2].rstrip("'") if view else ""),
            outcome(view, desk.door.in_host),
            gr.update(interactive=not busy),
            gr.update(interactive=busy),
            gr.update(interactive=busy),
        ]

    shown = [status, live, result, start, keep, discard]
    watch = watcher(desk, FORGET, show)
    begun = start.click(said(begin), [prompts, *fields.values()], [problem], queue=False)
    done = begun.then(watch, None, shown, show_progress="hidden", **FREE)
    keep.click(said(lambda: stop(False)), None, [problem], queue=False)
    discard.click(said(lambda: stop(True)), None, [problem], queue=False)
    attached = page.load(watch, None, shown, show_progress="hidden", **FREE)

    presets = sorted({name for values in QUALITIES.values() for name in values})
    quality.change(
        lambda q: [gr.update(value=defaults(q)[n]) for n in presets],
        [quality],
        [fields[n] for n in presets],
        queue=False,
    )
    return Parts([begun, done, attached], teacher)


def outcome(view: View | None, in_host: bool) -> str:
    """What a finished job has made, or ""."""
    made = view.result if view else None
    if not isinstance(made, Made):
        return ""
    hint = "Paste this into any prompt:" if in_host else "In your LoRA folder it is switched on by:"
    parts = [views.verdict(made.report), views.tag(made.tag, hint), views.tag(made.name, "File:")]
    if made.report["stopped"]:
        parts.append(views.notice(f"Half-trained: {made.report['stopped']}.", "info"))
    if made.remark:
        parts.append(views.notice(made.remark, "info"))
    return "".join([*parts, views.comparison(made.extra), views.comparison(made.pairs)])
