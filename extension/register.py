"""What a host runs at load and at each Reload UI: adds the tab, or one that says why it is not there."""

from __future__ import annotations

import traceback
from html import escape
from typing import Any

TITLE, NAME = "Unlearn", "unlearn_tab"
THE_REST = "The rest of the web UI works as before."
ADVICE = f"Update the extension, or run its install.py with the Python of this web UI, then restart. {THE_REST}"


def register() -> None:
    """Tell the host about the tab. Never raises: a broken extension must not stop the host."""
    try:
        from ..unlearn_core import UnlearnError
        from .host import connect

        try:
            connect(TITLE, NAME)
        except UnlearnError as error:
            # a sentence that says what to do
            explain(str(error), THE_REST)
    except Exception as error:
        traceback.print_exc()
        explain(f"{type(error).__name__}: {error}", ADVICE)


def explain(why: str, advice: str) -> None:
    """Add a tab with a reason in place of the real one, where even the host's list of tabs can be had."""
    try:
        from .host_callbacks import on_tabs
    except Exception:
        return
    on_tabs(lambda: [(broken(why, advice), TITLE, NAME)])


def broken(why: str, advice: str) -> Any:
    """A tab with one sentence on why nothing else is here."""
    import gradio as gr

    with gr.Blocks(analytics_enabled=False) as page:
        gr.HTML(f"<p><b>Unlearn could not start.</b></p><p>{escape(why)}</p><p>{advice}</p>")
    return page
