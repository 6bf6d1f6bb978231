"""Who may press the tab's buttons in a web UI: pages of that web UI, and programs that send what its page sends.

The web UI itself asks nobody where a press comes from, and takes one that says nothing of what it is as well, which
any page that is open in the same browser can send.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from . import api


def only_own_pages(page: Any, any_name: bool) -> None:
    """Let the events of `page` refuse what another page sends. any_name: as for `api.refusal`."""
    functions = page.fns.values() if isinstance(page.fns, dict) else page.fns
    for function in functions:
        if function.fn is not None:
            function.fn = guarded(function.fn, any_name)


def guarded(event: Callable, any_name: bool) -> Callable:
    """The event for requests that are not refused."""

    # gradio fills in the request by its annotation; not `wraps`, which would show it the other signature
    def checked(request: gr.Request, *values: Any) -> Any:
        if request is not None and request.request is not None:
            _, why = api.refusal(request.request.scope, any_name)
            if why:
                raise gr.Error(why)
        return event(*values)

    checked.__name__, checked.event = getattr(event, "__name__", "event"), event
    return checked
