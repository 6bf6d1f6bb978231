"""The Forget tab: what to forget on the left, what happens on the right."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import gradio as gr

from . import html
from .job_polling import NOW, JobPolling, told
from .jobs import View
from .results import CandidatesResult
from .service import CANDIDATES, FORGET, Service
from .settings_form import fields_of, folded_fields

IDLE = "Name what the model should no longer generate, and press Enter or Start."


class Parts(NamedTuple):
    """What the other tabs connect to. ended: an event after which the stack may be another one."""

    ended: Any
    base: Any


def forget_tab(service: Service, page: Any) -> Parts:
    """Lay it out in the open container and connect its events."""
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            base = gr.HTML("", elem_id="unlearn_base")
            fields = fields_of("request")
            look = gr.Button("Show what could be drawn instead", size="sm", elem_id="unlearn_look")
            look_problem = gr.HTML("", elem_id="unlearn_look_problem")
            offered = gr.HTML("", elem_id="unlearn_offered")
            looking = JobPolling(service, CANDIDATES, lambda view: offer(view, service.offered()))
            prompts = gr.Textbox(
                value="",
                lines=2,
                label="Your own prompts",
                info="One a line. They are generated before and after, beside a few that are always shown.",
                elem_id="unlearn_prompts",
            )
            fields |= folded_fields()
        with gr.Column(scale=5, min_width=320):
            start, keep, discard = buttons()
            problem = gr.HTML("", elem_id="unlearn_problem")
            status = gr.HTML(html.status(None, IDLE), elem_id="unlearn_status")
            live = gr.HTML("", elem_id="unlearn_live")
            result = gr.HTML("", elem_id="unlearn_result")
            folder = gr.Button(
                "Open the folder", size="sm", visible=service.program.shows_folders, elem_id="unlearn_folder"
            )
            polling = JobPolling(service, FORGET, lambda view: shown(view, service.program.in_web_ui))

    names = list(fields)

    def begin(own: str, *values: Any) -> None:
        service.forget(dict(zip(names, values, strict=True)), own)

    def search(*values: Any) -> None:
        service.candidates(dict(zip(names, values, strict=True)))

    def fill() -> list:
        asked = service.wished()
        return [gr.update(value=asked[name]) if name in asked else gr.update() for name in ["prompts", *names]]

    def stop(discarding: bool) -> str | None:
        job = service.jobs.newest(FORGET)
        if job is None or job.view().finished:
            return "Nothing is running."
        return job.stop(discarding)

    page.load(fill, None, [prompts, *fields.values()], **NOW)
    polling.connect(page, [status, live, result, start, keep, discard])
    looking.connect(page, [offered, look])
    looking.after(look.click(told(search), [*fields.values()], [look_problem], **NOW))
    # what was chosen, shown or said of another word is of no use any more
    shown_of_it = [fields["anchor"], offered, looking.seen, problem]
    fields["concept"].input(partial(another, service), [fields["anchor"], looking.seen], shown_of_it, **NOW)
    for event in (start.click, fields["concept"].submit):
        polling.after(event(told(begin), [prompts, *fields.values()], [problem], **NOW))
    polling.after(keep.click(told(lambda: stop(False)), None, [problem], **NOW))
    polling.after(discard.click(told(lambda: stop(True)), None, [problem], **NOW))
    folder.click(told(lambda: service.open_folder()), None, [problem], **NOW)
    return Parts(polling.ended.change, base)


def another(service: Service, anchor: str, seen: str) -> list:
    """What is in the place of what was chosen, offered and said once another word is typed.

    seen: "" where nothing is offered any more: the anchor is then of the artist's own hand, and stays.
    """
    return ["" if seen and service.was_offered(anchor) else gr.update(), "", "", ""]


def buttons() -> list:
    """Start, and the two that end what it has started."""
    with gr.Row():
        start = gr.Button("Start", variant="primary", min_width=200, elem_id="unlearn_start")
        stops = (("Stop and keep", "unlearn_stop_keep"), ("Stop and discard", "unlearn_stop_discard"))
        return [start, *(gr.Button(text, interactive=False, min_width=138, elem_id=name) for text, name in stops)]


def offer(view: View | None, found: CandidatesResult | None) -> list:
    """What could be drawn instead, or how far the search for it is, and its button."""
    busy = view is not None and not view.finished
    lost = view is not None and view.finished and view.result is not None
    words = html.candidates(found) if found else html.status(view, "") if view and not lost else ""
    return [words, gr.update(interactive=not busy)]


def shown(view: View | None, in_web_ui: bool) -> list:
    """Status, live pictures, result and the three buttons."""
    busy = view is not None and not view.finished
    return [
        html.status(view, IDLE),
        html.live(view, view.about if view else ""),
        html.outcome(view, in_web_ui),
        gr.update(interactive=not busy),
        gr.update(interactive=busy),
        gr.update(interactive=busy),
    ]
