"""The Stack tab: deltas of the folder in the order of the stack, each with strength and switch."""

from __future__ import annotations

from functools import partial
from typing import Any

import gradio as gr

from ..unlearn_core import UnlearnError
from ..unlearn_core.delta.stack import MAX_STRENGTH
from . import views
from .actions import BAKE, Desk
from .form import FREE
from .jobs import View
from .library import SLOTS, Card, Row
from .watching import said, watcher

EMPTY = "The stack is empty. What you forget is put here; older deltas are added below."
AS_LEARNED = "The stack is as it was learned."


class StackTab:
    """Lays itself out in the open container; `connect` wires it up once the other tabs are there."""

    def __init__(self, desk: Desk, prompt: Any):
        self.desk, self.prompt = desk, prompt
        self.names = gr.State([])
        self.problem = gr.HTML("", elem_id="unlearn_stack_problem")
        self.lines = [self.slot(i) for i in range(SLOTS)]
        self.remarks = gr.HTML("", elem_id="unlearn_lineage")
        with gr.Row():
            self.library = gr.Dropdown(
                [], label="Deltas in the folder", allow_custom_value=True, scale=4, elem_id="unlearn_library"
            )
            self.add = gr.Button("Put on top", scale=1, elem_id="unlearn_add")
            self.reload = gr.Button("Look again", scale=1, elem_id="unlearn_reload")
        with gr.Row():
            self.tags = gr.Textbox("", label="For a prompt", interactive=False, scale=4, elem_id="unlearn_tags")
            self.use = gr.Button("Use in txt2img", scale=1, visible=prompt is not None, elem_id="unlearn_use")
        with gr.Accordion("Merge into one file", open=False):
            with gr.Row():
                self.merged_name = gr.Textbox("", label="Name", info="Empty: made from the concepts.")
                self.method = gr.Radio(["exact", "smaller"], value="exact", label="How", elem_id="unlearn_merge_how")
                self.rank = gr.Number(8, precision=0, label="Rank", info="Of the smaller one.")
            self.merge = gr.Button("Merge what is switched on", elem_id="unlearn_merge")
        with gr.Accordion("Bake into a copy of the checkpoint", open=False):
            with gr.Row():
                self.baked_name = gr.Textbox("", label="Name", info="Empty: made from both names.")
                self.bake = gr.Button("Write the copy", elem_id="unlearn_bake")
            self.bake_status = gr.HTML("", elem_id="unlearn_bake_status")
        with gr.Accordion("Delete a file", open=False), gr.Row():
            self.sure = gr.Checkbox(False, label="Yes, delete the delta chosen above for good")
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

    def connect(self, page: Any, news: list, teachers: list) -> None:
        """Wire all events. news: events of other tabs after which the stack may be another one.

        teachers: fields of other tabs that say what the stack is.
        """
        switches = [on for _, on, *_ in self.lines]
        strengths = [line[3] for line in self.lines]
        values = [self.names, *switches, *strengths]
        rows = [part for line in self.lines for part in line[:4]]
        shown = [self.names, *rows, self.library, self.remarks, self.tags, *teachers]

        def refresh() -> list:
            return self.shown(len(teachers))

        def store(names: list, *given: Any) -> list:
            try:
                if names == [r.name for r in self.desk.shelf.rows()]:
                    self.desk.shelf.set(tuple(map(Row, names, given[SLOTS:], given)))
            except UnlearnError as e:
                return [views.notice(str(e), "bad"), *self.remark(len(teachers))[1:]]
            return self.remark(len(teachers))

        def after(event: Any) -> None:
            event.then(refresh, None, shown, queue=False)

        for component in (*switches, *strengths):
            component.change(store, values, [self.remarks, self.tags, *teachers], queue=False, show_progress="hidden")
        for place, (*_, earlier, later, out) in enumerate(self.lines):
            after(earlier.click(said(partial(self.move, place, -1)), [self.names], [self.problem], queue=False))
            after(later.click(said(partial(self.move, place, 1)), [self.names], [self.problem], queue=False))
            after(out.click(said(partial(self.take_out, place)), [self.names], [self.problem], queue=False))
        after(self.add.click(said(self.put), [self.library], [self.problem], queue=False))
        after(self.delete.click(said(self.remove), [self.library, self.sure], [self.problem], queue=False))
        merging = [self.merged_name, self.method, self.rank]
        after(self.merge.click(said(self.merged), merging, [self.problem], queue=False))
        self.reload.click(refresh, None, shown, queue=False)
        baking = self.bake.click(said(self.baked), [self.baked_name], [self.problem], queue=False)
        baking.then(watcher(self.desk, BAKE, self.baking), None, [self.bake_status], show_progress="hidden", **FREE)
        if self.prompt is not None:
            self.use.click(self.used, [self.prompt], [self.prompt, self.problem], queue=False)
        for event in news:
            after(event)
        page.load(refresh, None, shown, queue=False)

    # What the buttons do

    def move(self, place: int, by: int, names: list) -> None:
        self.desk.shelf.move(names[place], by)

    def take_out(self, place: int, names: list) -> None:
        self.desk.shelf.take_out(names[place])

    def put(self, name: str | None) -> None:
        if not name:
            raise UnlearnError("Choose a delta of the folder first.")
        self.desk.shelf.delta(name)
        self.desk.shelf.put(name)

    def remove(self, name: str | None, sure: bool) -> str:
        if not name or not sure:
            raise UnlearnError("Choose the delta above and tick the box: a deleted file does not come back.")
        self.desk.shelf.delete(name)
        self.desk.door.saved(self.desk.door.folder() / name)
        return f"{name} is deleted."

    def merged(self, name: str, method: str, rank: Any) -> str:
        card, remark = self.desk.merge(name, method, rank)
        return f"{card.name}: {remark}"

    def baked(self, name: str) -> None:
        self.desk.bake(name)

    def used(self, prompt: str) -> tuple[str, str]:
        tags = self.desk.tags()
        if not tags:
            return prompt, views.notice("The stack is empty or switched off.", "bad")
        missing = [t for t in tags.split() if t not in prompt]
        return " ".join([prompt.strip(), *missing]).strip(), views.notice(
            "The prompt in txt2img has the stack now.", "good"
        )

    # What is shown

    def shown(self, teachers: int) -> list:
        """All fields as the folder and the stack are now."""
        cards = self.desk.cards()
        by_name = {c.name: c for c in cards}
        rows, fingerprint = self.desk.shelf.rows(), self.desk.door.fingerprint()
        fields: list = [[r.name for r in rows]]
        for place in range(SLOTS):
            if place < len(rows):
                row = rows[place]
                facts = views.row(place + 1, row, by_name.get(row.name), fingerprint)
                fields += [gr.update(visible=True), row.on, facts, row.strength]
            else:
                fields += [gr.update(visible=False), gr.update(), "", gr.update()]
        others = [(label(c), c.name) for c in cards if c.name not in {r.name for r in rows}]
        return [*fields, gr.update(choices=others, value=None), *self.remark(teachers)]

    def remark(self, teachers: int) -> list:
        """Lineage, the text for a prompt, and for other tabs what the stack is."""
        rows = self.desk.shelf.rows()
        remarks = views.sentences(self.desk.lineage(), AS_LEARNED) if rows else views.notice(EMPTY)
        active = [r for r in rows if r.on and r.strength]
        concepts = " + ".join(self.concepts(active))
        words = f"{self.desk.door.base()}, with the stack {concepts}" if active else self.desk.door.base()
        return [remarks, self.desk.tags(), *[views.tag(words, "Works on:")] * teachers]

    def concepts(self, rows: list[Row]) -> list[str]:
        """What the rows forget, as far as their files can be read."""
        by_name = {c.name: c for c in self.desk.cards()}
        return [" + ".join(by_name[r.name].info.concepts) if r.name in by_name else r.name for r in rows]

    def baking(self, view: View | None) -> list:
        return [views.status(view, "")]


def label(card: Card) -> str:
    """A delta in the list of the folder."""
    state = card.info.stopped or card.info.judge.get("verdict", "") or ("merged" if card.info.merged else "")
    return " · ".join(filter(None, [" + ".join(card.info.concepts), card.stem, str(state), card.made]))
