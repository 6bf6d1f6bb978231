"""The Stack tab: deltas of the folder in the order of the stack, each with strength and switch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from ..unlearn_core import BadSetting, UnlearnError
from ..unlearn_core.delta.stack import FORGETS, MAX_STRENGTH
from . import html
from .balancing import BALANCE, BalancedResult, start_balancing
from .delta_library import Card, not_there, small_card
from .job_polling import NEWEST, NOW, JobPolling, told
from .jobs import View
from .results import with_tags
from .service import BAKE, Service
from .stack_file import SLOTS, STALE, Row

EMPTY = "The stack is empty. New deltas are put here by themselves. Older ones can be added below."
ALL_OFF = "All deltas of the stack are switched off: the model is as its checkpoint has it."
AS_LEARNED = "Order and strengths suit the deltas that are switched on."
HOW = "Balanced: a new delta that changes less of the rest. For fifty concepts and more; takes minutes."
LOOK = "Look in Before / After at what has become of"
MOST_LOST = 0.1
"""Part of all change that a smaller merge may lose before it is called much."""


class StackTab:
    """Lays itself out in the open container; `connect` wires it up once the other tabs are there."""

    def __init__(self, service: Service, prompt: Any):
        self.service, self.prompt = service, prompt
        self.seen = gr.State([])  # [name, on, strength] of each row, as the page shows it
        self.problem = gr.HTML("", elem_id="unlearn_stack_problem")
        self.lines = [self.slot(i) for i in range(SLOTS)]
        self.remarks = gr.HTML("", elem_id="unlearn_lineage")
        with gr.Row():
            self.library = gr.Dropdown(
                [], label="Deltas in the folder", allow_custom_value=True, scale=4, elem_id="unlearn_library"
            )
            self.add = gr.Button("Add to the stack", scale=1, elem_id="unlearn_add")
            self.reload = gr.Button("Refresh", scale=1, elem_id="unlearn_reload")
        self.added = gr.HTML("", elem_id="unlearn_added")
        with gr.Row():
            self.tags = gr.Textbox(
                "", label="Text for a prompt", lines=2, interactive=False, scale=4, elem_id="unlearn_tags"
            )
            shows = service.program.shows_folders
            self.open = gr.Button("Open the folder", scale=1, visible=shows, elem_id="unlearn_open")
            self.use = gr.Button("Use in txt2img", scale=1, visible=prompt is not None, elem_id="unlearn_use")
        self.used_said = gr.HTML("", elem_id="unlearn_used")
        with gr.Accordion("Merge into one file", open=False):
            with gr.Row():
                self.merged_name = gr.Textbox("", label="Name", info="Empty: named after the concepts.")
                self.method = gr.Radio(
                    ["exact", "smaller", "balanced"],
                    value="exact",
                    label="How",
                    info=HOW,
                    elem_id="unlearn_merge_how",
                )
                self.rank = gr.Number(8, precision=0, label="Rank", info='For "smaller" only.')
            with gr.Row():
                self.merge = gr.Button("Merge the deltas that are switched on", scale=4, elem_id="unlearn_merge")
                self.stop = gr.Button("Stop", interactive=False, scale=1, elem_id="unlearn_balance_stop")
            self.merge_said = gr.HTML("", elem_id="unlearn_merge_said")
            self.balance_status = gr.HTML("", elem_id="unlearn_balance_status")
            self.balance_polling = JobPolling(service, BALANCE, balancing)
        with gr.Accordion("Bake into a copy of the checkpoint", open=False):
            with gr.Row():
                self.baked_name = gr.Textbox(
                    "", label="Name", info="Empty: named after the checkpoint and the concepts."
                )
                self.bake = gr.Button("Write the copy", elem_id="unlearn_bake")
            self.bake_problem = gr.HTML("", elem_id="unlearn_bake_problem")
            self.bake_status = gr.HTML("", elem_id="unlearn_bake_status")
            self.polling = JobPolling(service, BAKE, baking)
        with gr.Accordion("Delete a file", open=False):
            with gr.Row():
                self.sure = gr.Checkbox(
                    False,
                    label="Delete the delta chosen above for good",
                    info='Only files that are not on the stack: "Remove" takes one off.',
                    elem_id="unlearn_sure",
                )
                self.delete = gr.Button("Delete", variant="stop", elem_id="unlearn_delete")
            self.deleted = gr.HTML("", elem_id="unlearn_deleted")

    @staticmethod
    def slot(place: int) -> tuple:
        """Components of one line: (row, switch, facts, strength, earlier, later, out)."""
        with gr.Row(visible=False, elem_classes=["unlearn-slot"], elem_id=f"unlearn_slot_{place}") as line:
            with gr.Column(scale=1, min_width=60):
                on = gr.Checkbox(True, label="Use", container=False)
            with gr.Column(scale=6, min_width=170):
                facts = gr.HTML("")
            with gr.Column(scale=5, min_width=210):
                strength = gr.Slider(-MAX_STRENGTH, MAX_STRENGTH, value=1.0, step=0.05, label="Strength")
            buttons = [gr.Button(text, size="sm", min_width=40, scale=0) for text in ("Up", "Down", "Remove")]
        return (line, on, facts, strength, *buttons)

    def connect(self, page: Any, forgotten: Callable, opened: Sequence[Callable], bases: list) -> None:
        """Wire all events. forgotten: an event after which the stack may be another one.

        opened: events of tabs that come into sight. bases: fields of other tabs that say what checkpoint and stack are.
        """
        self.bases = bases
        self.connect_lines()
        # each answer stands where the button is
        self.refresh_after(self.add.click(told(self.put), [self.library], [self.added], **NOW))
        deleting = self.delete.click(told(self.remove), [self.library, self.sure], [self.deleted], **NOW)
        deleting.then(lambda: False, None, [self.sure], **NOW)
        self.refresh_after(deleting)
        self.open.click(told(self.service.open_folder), None, [self.used_said], **NOW)
        merging = [self.seen, self.merged_name, self.method, self.rank]
        merged = self.merge.click(told(self.merged), merging, [self.merge_said], **NOW)
        self.refresh_after(merged)
        self.balance_polling.connect(page, [self.balance_status, self.stop])
        self.balance_polling.after(merged)
        self.balance_polling.after(self.stop.click(told(self.stopped), None, [self.merge_said], **NOW))
        self.refresh_after(self.balance_polling.ended.change(lambda: None, None, None, **NOW))
        self.polling.connect(page, [self.bake_status])
        baking = self.bake.click(told(self.baked), [self.seen, self.baked_name], [self.bake_problem], **NOW)
        self.polling.after(baking)
        self.refresh_after(baking)
        if self.prompt is not None:
            self.use.click(self.used, [self.prompt], [self.prompt, self.used_said], **NOW)
        for event in (self.reload.click, page.load):
            event(self.shown, None, self.fields(), **NOW)
        for event in (forgotten, *opened):
            event(self.news, [self.seen], self.fields(), **NOW)

    def connect_lines(self) -> None:
        """Wire the events of the stack's lines."""
        for place, (_, on, _, strength, *_) in enumerate(self.lines):
            for part, component in (("on", on), ("strength", strength)):
                # `input` is the hand of the person alone: what `shown` fills in starts nothing
                component.input(
                    self.change_of(place, part), [self.seen, component], [self.problem, *self.fields()], **NEWEST
                )
        for place, (*_, earlier, later, out) in enumerate(self.lines):
            for button, action in (
                (earlier, partial(self.move, place, -1)),
                (later, partial(self.move, place, 1)),
                (out, partial(self.take_out, place)),
            ):
                self.refresh_after(button.click(told(action), [self.seen], [self.problem], **NOW))

    def refresh_after(self, event: Any) -> None:
        event.then(self.shown, None, self.fields(), **NOW)

    def fields(self) -> list:
        """What `shown` fills."""
        rows = [part for line in self.lines for part in line[:4]]
        return [self.seen, *rows, self.library, self.remarks, self.tags, *self.bases]

    # What the buttons do

    def change_of(self, place: int, part: str) -> Callable[[list, Any], list]:
        """The event of a field."""
        return lambda seen, value: self.changed(place, part, seen, value)

    def changed(self, place: int, part: str, seen: list, value: Any) -> list:
        """Keep one value of one line; (what went wrong, all fields as they are now).

        Of a number that is being typed nothing is written back: the next key would stand behind it.
        """
        if value in (None, ""):
            return [gr.update(), seen, *(gr.update() for _ in self.fields()[1:])]
        try:
            self.service.stack_file.change(name_at(seen, place), **{part: value})
        except UnlearnError as e:
            return [html.notice(str(e), "bad"), *self.shown()]
        fields = self.news(seen)
        # another page may have put another delta into this line, and the hand's value is not its own
        if [line[0] for line in fields[0][place : place + 1]] == [name_at(seen, place)]:
            fields[4 * place + (2 if part == "on" else 4)] = gr.update()
        fields[1 + 4 * SLOTS] = gr.update()
        return ["", *fields]

    def move(self, place: int, by: int, seen: list) -> None:
        self.service.stack_file.move(name_at(seen, place), by)

    def take_out(self, place: int, seen: list) -> None:
        self.service.stack_file.take_out(name_at(seen, place))

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

    def merged(self, seen: list, name: str, method: str, rank: Any) -> str:
        self.check_fresh(seen)
        if method == "balanced":
            start_balancing(self.service, name)
            return ""
        card, remark, lost = self.service.merge(name, method, rank)
        if lost > MOST_LOST:
            raise UnlearnError(
                f"{card.name}: {remark} That is much: look at its pictures, or remove it, put its parts back and "
                "choose a higher rank, or exact."
            )
        return f"{card.name}: {remark}"

    def stopped(self) -> str | None:
        job = self.service.jobs.newest(BALANCE)
        return job.stop() if job and not job.view().finished else "Nothing is running."

    def baked(self, seen: list, name: str) -> None:
        self.check_fresh(seen)
        self.service.bake(name)

    def check_fresh(self, seen: list) -> None:
        """Raise `BadSetting` where this page shows another stack than there is now."""
        if [line[0] for line in seen] != [r.name for r in self.service.stack_file.rows()]:
            raise BadSetting(STALE)

    def used(self, prompt: str) -> tuple[str, str]:
        tags = self.service.tags()
        if not tags:
            return prompt, html.notice(
                "The stack is empty or switched off: there is nothing to add to the prompt.", "bad"
            )
        return with_tags(prompt, tags), html.notice("The prompt in txt2img now uses the stack.", "good")

    # What is shown

    def shown(self) -> list:
        """All fields as the folder and the stack are now."""
        rows, base = self.service.stack_file.rows(), self.service.program.base()
        by_name = self.service.cards_of(rows)
        fields: list = [[[r.name, r.on, r.strength] for r in rows]]
        for place in range(SLOTS):
            if place < len(rows):
                row = rows[place]
                picture = "" if row.wrong else small_card(self.service.program.folder() / row.name)
                facts = html.row(place + 1, row, by_name.get(row.name), base, picture)
                fields += [gr.update(visible=True), row.on is not False, facts, row.strength or 0]
            else:
                fields += [gr.update(visible=False), gr.update(), "", gr.update()]
        others = [(label(c), c.name) for c in self.service.cards() if c.name not in {r.name for r in rows}]
        return [*fields, gr.update(choices=others, value=None), *self.remark()]

    def news(self, seen: Any) -> list:
        """The same for a page that shows the rows `seen`: a hand may be changing a field of it at this moment.

        So only those switches and strengths are filled in that have become others than what it shows, and what is
        chosen in the folder's list stays chosen.
        """
        fields = self.shown()
        fields[1 + 4 * SLOTS].pop("value", None)
        for line, (old, new) in enumerate(zip(seen if isinstance(seen, list) else [], fields[0], strict=False)):
            for number in (1, 2):
                if old[0] == new[0] and old[number] == new[number]:
                    fields[4 * line + 2 * number] = gr.update()
        return fields

    def remark(self) -> list:
        """Lineage, the text for a prompt, and for other tabs what the stack is."""
        rows = self.service.stack_file.rows()
        active = [r for r in rows if r.acts]
        concepts = " + ".join(self.concepts(active))
        name = self.service.program.checkpoint_name()
        words = f"{name}, without {concepts}" if concepts else name
        return [self.remarks_on(rows, active), self.service.tags(), *[html.code(words, "Model:")] * len(self.bases)]

    def remarks_on(self, rows: Sequence[Row], active: Sequence[Row]) -> str:
        """Whether the stack is as its deltas were made; green alone where all that acts has forgotten its concept."""
        if not active:
            return html.notice(ALL_OFF if rows else not_there(self.service.program.folder()) or EMPTY)
        doubts = html.doubts([*self.service.cards_of(active).values()])
        words = f"{AS_LEARNED} {LOOK} {doubts}." if doubts else AS_LEARNED
        return html.sentences(self.service.remarks(), words, not doubts)

    def concepts(self, rows: Sequence[Row]) -> list[str]:
        """What the rows forget at their strength, as far as their files can be read."""
        by_name = self.service.cards_of(rows)
        good = [r for r in rows if not r.wrong and (r.strength or 0) >= FORGETS]
        return [" + ".join(by_name[r.name].info.concepts) if r.name in by_name else r.name for r in good]


def name_at(seen: Any, place: int) -> str:
    """The delta that the page shows in a line. Raises `BadSetting` where it shows none."""
    if isinstance(seen, list) and place < len(seen):
        return seen[place][0]
    raise BadSetting(STALE)


def baking(view: View | None) -> list:
    """How far the copy is, and where it lies at the end."""
    made = view.result if view else None
    return [html.status(view, "") + (html.place(made, "Saved as:") if isinstance(made, Path) else "")]


def balancing(view: View | None) -> list:
    """How far the balancing is and what it gave, and the button that stops it."""
    made = view.result if view else None
    words = html.status(view, "")
    if isinstance(made, BalancedResult):
        words += html.notice(f"{made.name}: {made.remark}", "good") + (html.notice(made.doubt) if made.doubt else "")
    return [words, gr.update(interactive=view is not None and not view.finished)]


def label(card: Card) -> str:
    """A delta in the list of the folder."""
    state = card.info.stopped or card.info.check.get("verdict", "") or ("merged" if card.info.merged else "")
    return " · ".join(filter(None, [" + ".join(card.info.concepts), card.stem, str(state), card.made]))
