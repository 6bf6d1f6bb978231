"""How a page follows a job: it only looks, so that it may be reloaded, doubled or closed at any time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from ..unlearn_core import UnlearnError
from . import views
from .actions import Desk
from .jobs import PERIOD, View, in_one_sentence

PATIENCE = 1.0
"""Seconds between two looks at a job that says nothing new."""


def watcher(desk: Desk, kind: str, show: Callable[[View | None], list]) -> Callable[[], Iterator[list]]:
    """A generator for gradio: `show` of each new state of the newest job of a kind, until it is finished."""

    def watch() -> Iterator[list]:
        job, version, last = desk.jobs.newest(kind), -1, []
        if job is None:
            yield show(None)
            return
        while True:
            view = job.wait(version, PATIENCE)
            if view.version != version:
                version, now = view.version, show(view)
                yield [gr.update() if last and a == b else a for a, b in zip(now, last or now, strict=True)]
                last = now
            if view.finished:
                return
            time.sleep(PERIOD)

    return watch


def said(action: Callable[..., str | None]) -> Callable[..., str]:
    """An action as a gradio event whose outcome is one sentence in a box, mistakes included."""

    # not `wraps`: gradio would resolve the action's annotations and fail
    def event(*values: Any) -> str:
        try:
            return views.notice(action(*values) or "", "good")
        except UnlearnError as e:
            return views.notice(str(e), "bad")
        except Exception as e:
            return views.notice(in_one_sentence(e), "bad")

    return event
