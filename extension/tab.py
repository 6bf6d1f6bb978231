"""The layout: one set of Blocks for gradio 3.41 and 4.40, in a host's tab or alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from . import html
from .compare_tab import compare_tab
from .forget_tab import forget_tab
from .service import Service
from .stack_tab import StackTab

CSS = Path(__file__).with_name("tab.css").read_text("utf-8")
SYSTEM_FONTS = ("system-ui", "sans-serif")
MONOSPACE = ("ui-monospace", "monospace")


def theme() -> Any:
    """Gradio's own look with the system's fonts: the usual ones are fetched from the network.

    Its help texts are too pale to be read by everybody.
    """
    own = gr.themes.Default(font=SYSTEM_FONTS, font_mono=MONOSPACE)
    return own.set(block_info_text_color="*neutral_500", block_info_text_color_dark="*neutral_400")


def build(service: Service, page: Any, prompt: Any = None) -> None:
    """Fill `page`, the Blocks that are open. prompt: the host's txt2img prompt, where there is one."""
    gr.HTML(f"<style>{CSS}</style>{html.naming()}")
    with gr.Tabs():
        with gr.TabItem("Forget", elem_id="unlearn_tab_forget"):
            forget = forget_tab(service, page)
        with gr.TabItem("Stack", elem_id="unlearn_tab_stack") as second:
            stack = StackTab(service, prompt)
        with gr.TabItem("Before / After", elem_id="unlearn_tab_compare") as third:
            compare = compare_tab(service, page)
    stack.connect(page, forget.ended, [second.select, third.select], [forget.base, compare])
    for component in page.blocks.values():
        # Automatic1111 would write today's defaults into ui-config.json, and read them from there for good
        component.do_not_save_to_config = True
