"""How a page follows a job: it asks again and again, so that it may be reloaded, doubled or closed at any time.

Nothing waits on the server for a page: gradio 3 never ends an event whose page was closed while it still gave results,
and a web UI that is told to reload then waits for that event for good.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import gradio as gr

from ..unlearn_core import UnlearnError
from . import html
from .jobs import View, in_one_sentence
from .service import Service

NOW = {"queue": False, "show_progress": "hidden"}
"""For events that are answered at once: nothing of this tab may wait in gradio's queue."""

NEWEST = NOW if gr.__version__.startswith("3.") else {**NOW, "trigger_mode": "always_last"}
"""For fields that a hand drags: gradio 4 would drop what comes while an answer is under way."""


class JobPolling:
    """Shows the newest job of a kind in fields of the page, and asks for news while it runs.

    show: values of the fields for a state of the job. `ended` changes when a job has ended, for events that follow it.
    """

    def __init__(self, service: Service, kind: str, show: Callable[[View | None], list]):
        self.service, self.kind, self.show = service, kind, show
        self.timer = gr.HTML("", elem_id=f"unlearn_{kind}_timer")
        with gr.Row(elem_classes=["unlearn-hidden"]):
            self.button = gr.Button("Refresh", elem_id=f"unlearn_{kind}_poll")
            self.seen, self.ended = (gr.Textbox("", show_label=False) for _ in range(2))

    def connect(self, page: Any, fields: list) -> None:
        """Follow the job into these fields, from the moment that the page is loaded."""
        self.shown = [*fields, self.seen, self.ended, self.timer]
        page.load(self.look, [self.seen], self.shown, **NOW)
        self.button.click(self.look, [self.seen], self.shown, **NOW)

    def after(self, event: Any) -> None:
        """Look at once after an event that starts or stops a job."""
        event.then(self.look, [self.seen], self.shown, **NOW)

    def look(self, seen: str) -> list:
        """Values of all fields. seen: digests of what the page shows already, which is not sent again."""
        job = self.service.jobs.newest(self.kind)
        view = job.view() if job else None
        values = self.show(view)
        digests, old = [digest(v) for v in values], (seen or "").split()
        old += [""] * (len(digests) - len(old))
        fields = [gr.update() if a == b else v for v, a, b in zip(values, digests, old, strict=False)]
        running = view is not None and not view.finished
        ended = gr.update() if running or view is None else view.id
        return [*fields, " ".join(digests), ended, html.timer(f"unlearn_{self.kind}_poll") if running else ""]


def digest(value: Any) -> str:
    """A few signs that tell one value of a field from another."""
    return hashlib.sha256(repr(value).encode()).hexdigest()[:12]


def told(action: Callable[..., str | None]) -> Callable[..., str]:
    """An action as a gradio event whose outcome is one sentence in a box, mistakes included."""

    # not `wraps`: gradio would resolve the action's annotations and fail
    def event(*values: Any) -> str:
        try:
            return html.notice(action(*values) or "", "good")
        except UnlearnError as e:
            return html.answer(str(e))
        except Exception as e:
            return html.answer(in_one_sentence(e))

    return event
