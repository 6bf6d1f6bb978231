"""What the page shows, as HTML; every text from outside is escaped."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from ..unlearn_core import DeltaInfo
from ..unlearn_core.delta.base_sample import Base
from ..unlearn_core.errors import one_line
from ..unlearn_core.method.forget import summary
from .delta_library import Card
from .jobs import DONE, FAILED, STOPPED, WAITING, View
from .loss_curve import curve
from .results import CandidatesResult, ForgetResult, Pair
from .stack_file import SHOWN, Row

PHASES = {
    "sampling": "Generating pictures of the concept",
    "choosing": "Choosing what to draw instead",
    "before": "Checking the model as it is",
    "editing": "Making the fast edit",
    "replay": "Generating pictures to train with",
    "training": "Training",
    "after": "Checking the result",
    "balancing": "Leading each concept as far as it takes",
    "generating": "Generating pictures",
    "writing": "Writing the file",
}


NOT_YET = 0.99
"""Where the bar stands until the job has ended."""


def notice(text: str, kind: str = "info") -> str:
    """One sentence in a box. kind: "info", "good" or "bad"."""
    role = "alert" if kind == "bad" else "status"
    return f'<div class="unlearn-box {kind}" role="{role}">{escape(text)}</div>' if text else ""


def minutes(seconds: float) -> str:
    """A time as a person says it."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    return (
        f"{seconds // 60} min {seconds % 60:02} s"
        if seconds < 3600
        else f"{seconds // 3600} h {seconds % 3600 // 60} min"
    )


def status(view: View | None, idle: str) -> str:
    """The job's state: phase, bar, time left, curve. idle: what to say while there has been no job, "" for nothing."""
    if view is None:
        return f'<div class="unlearn-idle">{escape(idle)}</div>' if idle else ""
    if view.finished:
        return finished(view)
    once = f"if(window.unlearnShown!='{view.id}'){{window.unlearnShown='{view.id}';{INTO_SIGHT}}}"
    head = "Stopping…" if view.stopping else PHASES.get(view.phase, "Starting")
    if view.state == WAITING:
        head = "Waiting for the model" if not view.stopping else "Stopping…"
    facts = []
    if view.total > 1 and view.phase != "generating":
        facts.append(f"{'step ' if view.phase == 'training' else ''}{view.done} of {view.total}")
    if view.phase == "training":
        facts.append("it ends sooner if the concept is gone")
    left = f"about {minutes(view.seconds_left)} left" if round(view.seconds_left or 0) else ""
    return (
        f'<div class="unlearn-status"><div class="line"><b>{escape(view.title)}</b>'
        f'<span class="left">{left}</span></div>{bar(min(view.fraction, NOT_YET), view.title)}'
        f'<div class="line small"><span class="phase">{escape(head)}</span><span>{", ".join(facts)}</span></div>'
        f"{said(view.notes)}{curve(view.losses)}{acting(once)}</div>"
    )


def said(notes: Sequence[str]) -> str:
    """Sentences about what was asked for, from the start of a job on."""
    return "".join(f'<div class="note small">{escape(note)}</div>' for note in notes)


def finished(view: View) -> str:
    """How a job ended."""
    words = {DONE: "Done", STOPPED: "Stopped", FAILED: "Failed"}[view.state]
    kind = {DONE: "good", STOPPED: "info", FAILED: "bad"}[view.state]
    text = f'<div class="unlearn-status"><div class="line"><b>{escape(view.title)}</b><span>{words}'
    text += f", {minutes(view.seconds)}" if view.seconds and view.state != FAILED else ""
    text += "</span></div>"
    if view.state != FAILED:
        text += bar(1.0 if view.state == DONE else view.fraction, view.title)
    return text + (notice(view.error, kind) if view.error else "") + said(view.notes) + curve(view.losses) + "</div>"


def bar(fraction: float, name: str) -> str:
    """A progress bar; fraction: 0..1. name: of what."""
    percent = round(100 * min(1.0, max(0.0, fraction)))
    return (
        f'<div class="unlearn-bar" role="progressbar" aria-label="{escape(name)}" aria-valuenow="{percent}" '
        f'aria-valuemin="0" aria-valuemax="100"><div style="width:{percent}%"></div><span>{percent} %</span></div>'
    )


def live(view: View | None, name: str) -> str:
    """What the model generates of the target at this moment."""
    if view is None or view.finished or not view.pictures:
        return ""
    most = len(view.pictures)
    images = "".join(f'<img src="{escape(p)}" alt="picture {n} of {most}">' for n, p in enumerate(view.pictures, 1))
    return (
        f'<div class="unlearn-live"><div class="small">What the model makes of "{escape(name)}" now</div>'
        f"<div>{images}</div></div>"
    )


def report(facts: dict, on: bool = True) -> str:
    """A run's report, in the core's own words; green where the concept is gone, nothing harmed and the delta on."""
    whole = on and not facts.get("stopped") and all_well(facts["check"]["verdict"])
    # a time is told as it is above the pictures
    rows = [(name, minutes(facts["seconds"]) if name == "Time" else value) for name, value in summary(facts)]
    return f'<div class="unlearn-box {"good" if whole else "info"}">{table(rows)}</div>'


def all_well(verdict: str) -> bool:
    """Whether a check has found the concept gone and nothing harmed."""
    return verdict.startswith("forgotten") and "harmed" not in verdict


def checked_well(info: DeltaInfo) -> bool:
    """Whether a delta's own record says so, and that its run was not stopped."""
    return not info.stopped and all_well(str(info.check.get("verdict", "")))


def outcome(view: View | None, in_web_ui: bool) -> str:
    """What a finished job has made, or ""."""
    made = view.result if view else None
    if not isinstance(made, ForgetResult):
        return ""
    if not made.earlier:
        return headline(made) + one_outcome(made, (USE_WITH if made.below else USE)[in_web_ui])
    whole = (*made.earlier, made)
    parts = [overview(whole, in_web_ui)]
    for number, one in enumerate(whole, 1):
        title = f"<h4>{number} of {len(whole)}: {escape(one.report['concept'])}</h4>"
        parts.append(
            f'<section class="unlearn-part">{title}{headline(one)}{one_outcome(one, "In a prompt:")}</section>'
        )
    return "".join(parts)


def headline(made: ForgetResult) -> str:
    """In a line what has become of one concept, before its pictures."""
    return f'<div class="unlearn-headline">{escape(in_a_line(made))}</div>'


def in_a_line(made: ForgetResult) -> str:
    """What was found, and what is drawn in the concept's place."""
    anchor = made.report["anchor"]
    place = f"drawn instead: {anchor}" if anchor else "nothing is drawn in its place"
    return f"{made.report['check']['verdict']}; {place}"


def overview(made: Sequence[ForgetResult], in_web_ui: bool) -> str:
    """All concepts of one request, a line each, and how their files are used together."""
    saved = [one for one in made if one.file]
    parts = [table([(one.report["concept"], in_a_line(one)) for one in made])]
    if saved:
        parts += [place(one.file.parent, "The files lie in:") for one in saved[:1] if one.file]
        tags = [saved[0].below, *(one.tag for one in saved)]
        parts.append(code(" ".join(filter(None, tags)), USE_ALL[in_web_ui]))
    return f'<section class="unlearn-part">{"".join(parts)}</section>'


USE = {True: "Add this to a prompt:", False: "Copy it into your program's LoRA folder and add this to a prompt:"}
USE_WITH = {
    True: USE[True],
    False: "Copy it and the deltas below it into your program's LoRA folder and add this to a prompt:",
}
USE_ALL = {
    True: "Add these to a prompt, all of them:",
    False: "Copy them into your program's LoRA folder and add these to a prompt, all of them:",
}
"""What to do next, in a web UI and on the page of its own."""


def one_outcome(made: ForgetResult, hint: str) -> str:
    """One concept's file, pictures and report, in this order: the pictures are many, and the numbers come last.

    hint: what to do with the text for a prompt.
    """
    parts = [place(made.file, "Saved as:"), code(f"{made.below} {made.tag}".strip(), hint)] if made.file else []
    if made.file and made.below:
        parts.append(notice("It works together with what it was made on top of: use all of it.", "info"))
    gone = f"What should be gone: {made.report['concept']}"
    pictures = {"Your own prompts": made.extra, gone: made.pairs, "What should stay": made.others}
    return "".join([*parts, notice(made.remark, "info"), comparison(pictures), report(made.report, made.on)])


def table(rows: Sequence[tuple[str, str]]) -> str:
    """Two columns of facts."""
    lines = "".join(f"<tr><th>{escape(a)}</th><td>{escape(b)}</td></tr>" for a, b in rows)
    return f'<table class="unlearn-facts">{lines}</table>'


def code(text: str, hint: str) -> str:
    """A text to copy, selected by one click."""
    return tag(escape(text), hint)


def place(path: Path, hint: str) -> str:
    """A path to copy; where it is too long it breaks between its parts."""
    return tag(re.sub(r"([/\\_])(?=.)", r"\1<wbr>", escape(str(path))), hint)


def tag(text: str, hint: str) -> str:
    """HTML to copy, under a hint."""
    return f'<div class="unlearn-tag"><span class="small">{escape(hint)}</span><code>{text}</code></div>'


# innerHTML runs no scripts, but attributes work: they only move a style property.
SLIDE = "this.closest('.unlearn-compare').style.setProperty('--cut', this.value + '%')"
SIDES = "this.closest('.unlearn-compare').classList.toggle('sides', this.checked)"


def comparison(groups: Mapping[str, Sequence[Pair]]) -> str:
    """Before and after of each prompt side by side, or under one slider. groups: the prompts under each heading."""
    pairs = [pair for group in groups.values() for pair in group]
    if not pairs:
        return ""
    both = any(p.after for p in pairs)
    tools = ""
    if both:
        tools = (
            f'<div class="tools"><span>before</span><input type="range" min="0" max="100" value="50" '
            f'aria-label="before or after" oninput="{SLIDE}"><span>after</span>'
            f'<label><input type="checkbox" checked onchange="{SIDES}"> side by side</label></div>'
        )
    sides = " sides" if both else ""
    parts = "".join(grouped(heading, group) for heading, group in groups.items() if group)
    return f'<div class="unlearn-compare{sides}">{tools}{parts}</div>'


def grouped(heading: str, pairs: Sequence[Pair]) -> str:
    """Pictures under a heading, or without one where it is ""."""
    title = f"<h5>{escape(heading)}</h5>" if heading else ""
    return f'{title}<div class="pairs">{"".join(map(figure, pairs))}</div>'


# The name is taken from an attribute, so that no text from outside is ever a part of a script.
CHOOSE = (
    "(f => { f.value = this.dataset.name; f.dispatchEvent(new Event('input', {bubbles: true})); })"
    "(document.querySelector('#unlearn_anchor textarea, #unlearn_anchor input'));"
    # that field may be out of sight
    "(all => { all.querySelectorAll('button').forEach(b => b.setAttribute('aria-pressed', b === this));"
    " all.querySelector('.taken').textContent = `Chosen: ${this.dataset.name}.`; })"
    "(this.closest('.unlearn-candidates'))"
)


def candidates(made: CandidatesResult) -> str:
    """Pictures of what could be drawn instead; a click writes the name into the field and marks the picture."""
    buttons = "".join(
        f'<button type="button" data-name="{escape(name)}" onclick="{escape(CHOOSE)}">'
        f'<img src="{escape(picture)}" alt=""><span>{escape(name)}</span></button>'
        for name, picture in made.shown
    )
    title = f"Instead of '{made.concept}' the model could draw one of these."
    return (
        f'<div class="unlearn-candidates"><div class="small">{escape(title)} '
        f'<span class="taken" role="status">Click to choose.</span></div><div>{buttons}</div></div>'
    )


def figure(pair: Pair) -> str:
    """One prompt with its pictures."""
    after = f'<img class="after" src="{escape(pair.after)}" alt="after">' if pair.after else ""
    return (
        f'<figure><div class="frame"><img class="before" src="{escape(pair.before)}" alt="before">{after}</div>'
        f"<figcaption>{escape(pair.prompt)}</figcaption></figure>"
    )


def row(place: int, row: Row, card: Card | None, base: Base | None, picture: str = "") -> str:
    """One line of the stack. picture: the address of what the delta does, before above after, or ""."""
    if row.wrong or card is None:
        advice = row.wrong or "This file cannot be read: take it out."
        name = one_line(row.name[:SHOWN])
        head = f"{naming(f'{place}. {name}')}<b>{escape(name)}</b>"
        return f'<div class="unlearn-row bad">{head}<span>{escape(advice)}</span></div>'
    facts, name = facts_of(card, base), f"{place}. {' + '.join(card.info.concepts)}"
    image = f'<img src="{escape(picture)}" alt="{escape(name)}, before and after">' if picture else ""
    return (
        f'<div class="unlearn-row{" pictured" if image else ""}">{image}'
        f"{naming(name)}<b>{escape(name)}</b>"
        f'<span class="small">{escape(card.stem)}</span><span class="small">{facts}</span></div>'
    )


def facts_of(card: Card, base: Base | None) -> str:
    """A delta's facts in one line of HTML. base: the chosen checkpoint, None while it is not known."""
    info = card.info
    facts = [state_of(info)]
    if info.anchor:
        facts.append(f"draws {info.anchor} instead")
    its_own = base is None or base.made(info.base_fingerprint, info.base_sample)
    if base is not None and its_own:
        facts.append("for this checkpoint")
    warning = "" if its_own else '<em class="bad">for another checkpoint</em> · '
    return f'{warning}{escape(" · ".join(facts))} · <span class="whole">{escape(card.made)}</span>'


def state_of(info: DeltaInfo) -> str:
    """What is known of a delta, in words."""
    return info.stopped or str(info.check.get("verdict", "")) or ("merged" if info.merged else "not checked")


def doubts(cards: Sequence[Card]) -> str:
    """What those deltas forget whose checks did not find all well, and what is known: "cat, dog (not checked)"."""
    found: dict[str, list[str]] = {}
    for card in cards:
        if not checked_well(card.info):
            found.setdefault(state_of(card.info), []).append(" + ".join(card.info.concepts))
    return "; ".join(f"{', '.join(concepts)} ({state})" for state, concepts in found.items())


def sentences(lines: Sequence[str], otherwise: str, good: bool) -> str:
    """Remarks on the stack, or that there are none. good: whether that is all that there is to say."""
    if not lines:
        return notice(otherwise, "good" if good else "info")
    return "".join(notice(line, "info") for line in lines)


# Gradio names no group of choices, gradio 3 no number beside a slider, and all lines of the stack have the same words.
NAMES = (
    "document.querySelectorAll('[id^=unlearn_tab_] :is(fieldset, input, .unlearn-slot button)').forEach(e => {"
    " const line = e.closest('.unlearn-slot')?.querySelector('[data-name]')?.dataset.name;"
    " if (!line && e.labels?.length) return;"
    " const words = e.matches('button') ? e"
    " : e.closest('.block')?.querySelector('[data-testid=block-info]') || e.closest('label');"
    " if (words) e.setAttribute('aria-label', words.textContent.trim() + (line ? `: ${line}` : '')); })"
)


INTO_SIGHT = "this.parentElement.scrollIntoView({block:'nearest'})"
"""In a narrow window what a button answers stands far below it; what is in sight stays where it is."""


def acting(script: str) -> str:
    """Nothing to see; the page runs a script of ours when this has come into it."""
    return f'<i class="unlearn-names" onanimationend="{escape(script)}"></i>'


def answer(text: str) -> str:
    """What went wrong with what a button was pressed for, brought into sight."""
    return notice(text, "bad").removesuffix("</div>") + acting(INTO_SIGHT) + "</div>" if text else ""


def naming(name: str = "") -> str:
    """Nothing to see; it gives the page's fields names that a screen reader can say. name: of its line of the stack."""
    return f'<i class="unlearn-names" data-name="{escape(name)}" onanimationend="{escape(NAMES)}"></i>'


def timer(button: str) -> str:
    """Nothing to see; when its short animation ends it presses a button of the page.

    It does not run while the tab is out of sight, and each answer brings a new one. Where no answer comes, as when a
    connection was lost, a second animation presses again every five seconds.
    """
    press = f"document.getElementById('{escape(button)}').click()"
    events = " ".join(f'{event}="{press}"' for event in ("onanimationend", "onanimationiteration"))
    return f'<i class="unlearn-timer" data-at="{time.monotonic_ns()}" {events}></i>'
