"""The host's list of tabs, apart from all that may fail."""

from __future__ import annotations

from collections.abc import Callable

from modules import script_callbacks


def on_tabs(make: Callable[[], list]) -> None:
    """Let the host call `make` when it lays out its page; it gives (Blocks, title, id) rows."""
    script_callbacks.on_ui_tabs(make)
