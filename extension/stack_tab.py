"""The Stack tab: deltas of the folder in the order of the stack, each with strength and switch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from ..unlearn_core import UnlearnError
from ..unlearn_core.delta.stack import MAX_STRENGTH
from . import html
from .delta_library import Card
from .job_polling import NOW, JobPolling, told
from .jobs import View
from .service import BAKE, Service
from .stack_file import SLOTS, Row

EMPTY = "The stack is empty. New deltas are put here by themselves. Older ones can be added below."
AS_LEARNED = "Order and strengths are the ones that the deltas were made with."


class StackTab:
    """Lays itself out in the open container; `connect` wires it up once the other tabs are there."""

    def __init__(self, service: Service, prompt: Any):
        self.service, self.prompt = service, prompt
        self.names = gr.State([])
        self.problem = gr.HTML("", elem_id="unlearn_stack_problem")
        self.lines = [self.slot(i) for i in range(SLOTS)]
        self.remarks = gr.HTML("", elem_id="unlearn_lineage")
        with gr.Row():
            self.library = gr.Dropdown(
                [], label="Deltas in the folder", allow_custom_value=True, scale=4, elem_id="unlearn_library"
            )
            self.add = gr.Button("Add to the stack", scale=1, elem_id="unlearn_add")
            self.reload = gr.Button("Refresh", scale=1, elem_id="unlearn_reload")
        with gr.Row():
            self.tags = gr.Textbox("", label="Text for a prompt", interactive=False, scale=4, elem_id="unlearn_tags")
            self.use = gr.Button("Use in txt2img", scale=1, visible=prompt is not None, elem_id="unlearn_use")
        with gr.Accordion("Merge into one file", open=False):
            with gr.Row():
                self.merged_name = gr.Textbox("", label="Name", info="Empty: named after the concepts.")
                self.method = gr.Radio(["exact", "smaller"], value="exact", label="How", elem_id="unlearn_merge_how")
                self.rank = gr.Number(8, precision=0, label="Rank", info='For "smaller" only.')
            self.merge = gr.Button("Merge the deltas that are switched on", elem_id="unlearn_merge")
        with gr.Accordion("Bake into a copy of the checkpoint", open=False):
            with gr.Row():
                self.baked_name = gr.Textbox(
                    "", label="Name", info="Empty: named after the checkpoint and the concepts."
                )
                self.bake = gr.Button("Write the copy", elem_id="unlearn_bake")
            self.bake_status = gr.HTML("", elem_id="unlearn_bake_status")
            self.polling = JobPolling(service, BAKE, baking)
        with gr.Accordion("Delete a file", open=False), gr.Row():
            self.sure = gr.Checkbox(False, label="Delete the delta chosen above for good")
            self.delete = gr.Button("Delete", variant="stop", elem_id="unlearn_delete")

    @staticmethod
    def slot(place: int) -> tuple:
        """Components of one line: (row, switch, facts, strength, earlier, later, out)."""
        with gr.Row(visible=False, elem_classes=["unlearn-slot"], elem_id=f"unlearn_slot_{place}") as line:
            with gr.Column(scale=1, min_width=80):
                on = gr.Checkbox(True, label="on", container=False)
            with gr.Column(scale=6, min_width=220):
                facts = gr.HTML("")
            with gr.Column(scale=4, min_width=160):
                strength = gr.Slider(-MAX_STRENGTH, MAX_STRENGTH, value=1.0, step=0.05, label="Strength")
            buttons = [gr.Button(text, size="sm", min_width=40, scale=0) for text in ("▲", "▼", "✕")]
        return (line, on, facts, strength, *buttons)

    def connect(self, page: Any, forgotten: Callable, bases: list) -> None:
        """Wire all events. forgotten: an event after which the stack may be another one.

        bases: fields of other tabs that say what checkpoint and stack are.
        """
        self.bases = bases
        self.connect_lines()
        self.refresh_after(self.add.click(told(self.put), [self.library], [self.problem], **NOW))
        self.refresh_after(self.delete.click(told(self.remove), [self.library, self.sure], [self.problem], **NOW))
        merging = [self.merged_name, self.method, self.rank]
        self.refresh_after(self.merge.click(told(self.merged), merging, [self.problem], **NOW))
        self.polling.connect(page, [self.bake_status])
        self.polling.after(self.bake.click(told(self.baked), [self.baked_name], [self.problem], **NOW))
        if self.prompt is not None:
            self.use.click(self.used, [self.prompt], [self.prompt, self.problem], **NOW)
        for event in (self.reload.click, forgotten, page.load):
            event(self.shown, None, self.fields(), **NOW)

    def connect_lines(self) -> None:
        """Wire the events of the stack's lines."""
        switches = [on for _, on, *_ in self.lines]
        strengths = [line[3] for line in self.lines]
        values, remarks = [self.names, *switches, *strengths], [self.remarks, self.tags, *self.bases]
        for component in (*switches, *strengths):
            component.change(self.store, values, remarks, **NOW)
        for place, (*_, earlier, later, out) in enumerate(self.lines):
            for button, action in (
                (earlier, partial(self.move, place, -1)),
                (later, partial(self.move, place, 1)),
                (out, partial(self.take_out, place)),
            ):
                self.refresh_after(button.click(told(action), [self.names], [self.problem], **NOW))

    def refresh_after(self, event: Any) -> None:
        event.then(self.shown, None, self.fields(), **NOW)

    def fields(self) -> list:
        """What `shown` fills."""
        rows = [part for line in self.lines for part in line[:4]]
        return [self.names, *rows, self.library, self.remarks, self.tags, *self.bases]

    # What the buttons do

    def store(self, names: list, *given: Any) -> list:
        """Keep switches and strengths as the page has them."""
        try:
            if names == [r.name for r in self.service.stack_file.rows()]:
                self.service.stack_file.set(tuple(map(Row, names, given[SLOTS:], given)))
        except UnlearnError as e:
            return [html.notice(str(e), "bad"), *self.remark()[1:]]
        return self.remark()

    def move(self, place: int, by: int, names: list) -> None:
        self.service.stack_file.move(names[place], by)

    def take_out(self, place: int, names: list) -> None:
        self.service.stack_file.take_out(names[place])

    def put(self, name: str | None) -> None:
        if not name:
            raise UnlearnError("Choose a delta from the list first.")
        self.service.stack_file.delta(name)
        self.service.stack_file.put(name)

    def remove(self, name: str | None, sure: bool) -> str:
        if not name or not sure:
            raise UnlearnError(
                "Choose a delta from the list above and tick the box. A deleted file cannot be restored."
            )
        self.service.stack_file.delete(name)
        self.service.program.file_changed(self.service.program.folder() / name)
        return f"{name} is deleted."

    def merged(self, name: str, method: str, rank: Any) -> str:
        card, remark = self.service.merge(name, method, rank)
        return f"{card.name}: {remark}"

    def baked(self, name: str) -> None:
        self.service.bake(name)

    def used(self, prompt: str) -> tuple[str, str]:
        tags = self.service.tags()
        if not tags:
            return prompt, html.notice(
                "The stack is empty or switched off: there is nothing to add to the prompt.", "bad"
            )
        missing = [t for t in tags.split() if t not in prompt]
        return " ".join([prompt.strip(), *missing]).strip(), html.notice(
            "The prompt in txt2img now uses the stack.", "good"
        )

    # What is shown

    def shown(self) -> list:
        """All fields as the folder and the stack are now."""
        cards = self.service.cards()
        by_name = {c.name: c for c in cards}
        rows, fingerprint = self.service.stack_file.rows(), self.service.program.fingerprint()
        fields: list = [[r.name for r in rows]]
        for place in range(SLOTS):
            if place < len(rows):
                row = rows[place]
                facts = html.row(place + 1, row, by_name.get(row.name), fingerprint)
                fields += [gr.update(visible=True), row.on, facts, row.strength]
            else:
                fields += [gr.update(visible=False), gr.update(), "", gr.update()]
        others = [(label(c), c.name) for c in cards if c.name not in {r.name for r in rows}]
        return [*fields, gr.update(choices=others, value=None), *self.remark()]

    def remark(self) -> list:
        """Lineage, the text for a prompt, and for other tabs what the stack is."""
        rows = self.service.stack_file.rows()
        remarks = html.sentences(self.service.lineage(), AS_LEARNED) if rows else html.notice(EMPTY)
        active = [r for r in rows if r.on and r.strength]
        concepts = " + ".join(self.concepts(active))
        name = self.service.program.checkpoint_name()
        words = f"{name}, without {concepts}" if active else name
        return [remarks, self.service.tags(), *[html.code(words, "Model:")] * len(self.bases)]

    def concepts(self, rows: list[Row]) -> list[str]:
        """What the rows forget, as far as their files can be read."""
        by_name = {c.name: c for c in self.service.cards()}
        return [" + ".join(by_name[r.name].info.concepts) if r.name in by_name else r.name for r in rows]


def baking(view: View | None) -> list:
    """How far the copy is, and where it lies at the end."""
    made = view.result if view else None
    return [html.status(view, "") + (html.code(str(made), "Saved as:") if isinstance(made, Path) else "")]


def label(card: Card) -> str:
    """A delta in the list of the folder."""
    state = card.info.stopped or card.info.check.get("verdict", "") or ("merged" if card.info.merged else "")
    return " · ".join(filter(None, [" + ".join(card.info.concepts), card.stem, str(state), card.made]))
