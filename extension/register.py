"""What a host runs at load and at each Reload UI: adds the tab, or one that says why it is not there."""

from __future__ import annotations

import traceback
from typing import Any

TITLE, NAME = "Unlearn", "unlearn_tab"


def register() -> None:
    """Tell the host about the tab. Never raises: a broken extension must not stop the host."""
    try:
        from .host import connect

        connect(TITLE, NAME)
    except Exception:
        traceback.print_exc()
        try:
            from .host_callbacks import on_tabs
        except Exception:
            return
        on_tabs(lambda: [(broken(why), TITLE, NAME)])


def broken(error: Exception) -> Any:
    """A tab with one sentence on why nothing else is here."""
    from html import escape

    import gradio as gr

    why = escape(f"{type(error).__name__}: {error}")
    with gr.Blocks(analytics_enabled=False) as page:
        gr.HTML(
            f"<p><b>Unlearn could not start.</b></p><p>{why}</p><p>Run its install.py with the Python of this web UI, "
            "or update the extension, then restart. Everything else here works as before.</p>"
        )
    return page
