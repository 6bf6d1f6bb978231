"""What the buttons do: values of a page in, core calls, results out. Knows neither gradio nor a host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from torch import Tensor

from ..unlearn_core import BadSetting, Cancelled, Delta, ForgetConfig, Stack, UnlearnError, forget, save, settings
from ..unlearn_core.delta.bake import bake
from ..unlearn_core.delta.merge import combine_cat, combine_svd
from ..unlearn_core.delta.stack import check_fits, lineage
from ..unlearn_core.preview import pictures, save_pictures
from .door import Door
from .jobs import Job, Jobs
from .library import PREVIEW, Card, Row, Shelf, cards, free_file
from .pictures import data_urls, save_card
from .views import Pair

FORGET, DRAW, BAKE = "forget", "draw", "bake"
SHOWN_LIVE = 6
"""Pictures of the target that are drawn again and again during training."""
MOST_PROMPTS, LONGEST_PROMPT = 16, 500
QUALITIES: dict[str, dict[str, Any]] = {
    "quick": {"check": False},
    "normal": {},
    "thorough": {"steps": 800, "latents_per_prompt": 2},
}
"""Settings that a quality changes; all others, and all of "normal", are the defaults."""


@dataclass(frozen=True)
class Made:
    """What a forget job gives the page. pairs: the core's own prompts; extra: the artist's."""

    name: str
    report: dict
    pairs: tuple[Pair, ...]
    extra: tuple[Pair, ...] = ()
    remark: str = ""

    @property
    def tag(self) -> str:
        """The text that switches the delta on in a web UI's prompt."""
        return f"<lora:{Path(self.name).stem}:1>"


@dataclass(frozen=True)
class Drawn:
    """What a before / after job gives the page."""

    pairs: tuple[Pair, ...]
    file: Path


class Desk:
    """The door, the jobs and the stack of one program; all pages share it."""

    def __init__(self, door: Door):
        self.door, self.jobs = door, Jobs()

    @property
    def shelf(self) -> Shelf:
        """The stack in the folder that the door names now."""
        return Shelf(self.door.folder())

    def forget(self, values: dict[str, Any], prompts: str = "") -> Job:
        """Start to forget on top of the stack. values: settings by name, of any type a page gives."""
        config = ForgetConfig.from_flat(values)
        own = read_prompts(prompts)
        self.shelf.check_room()
        stack = self.shelf.stack(self.shelf.rows())
        remarks = lineage(stack)

        def work(job: Job) -> Made:
            with self.door.model(job) as host:
                job.begin()
                job.picture = lambda latents: data_urls(host.decode(latents[:SHOWN_LIVE]))
                result = forget(host, config, stack, job.hear)
                folder = self.door.folder()
                folder.mkdir(parents=True, exist_ok=True)
                file = free_file(folder, f"forget {result.delta.info.concept}")
                delta = Delta(result.delta.factors, result.delta.info, file.stem)
                save(delta, file)
                self.door.saved(file)
                said = self.put_on_stack(file.name, result.report)
                seen, extra, stacks = (result.before, result.after), (), [stack, stack.with_delta(delta)]
                if result.before is None and not job.view().stopping:
                    seen = self.compared(job, host, result.prompts, stacks, config)
                if seen[0] is not None:
                    save_card(file.with_suffix(PREVIEW), *(None if s is None else s[0] for s in seen))
                if own and not job.view().stopping:
                    extra = paired(own, *map(data_urls, self.compared(job, host, own, stacks, config)))
            pairs = paired(result.prompts, *map(data_urls, seen))
            return Made(file.name, result.report, pairs, extra, " ".join(filter(None, [said, *remarks])))

        return self.jobs.start(FORGET, f"Forgetting '{config.concept}'", work)

    def put_on_stack(self, name: str, report: dict) -> str:
        """Put a new delta on top, switched off when it did not forget; a sentence where it does not act, else ""."""
        reason = "the run was stopped" if report["stopped"] else ""
        if report["judge"]["verdict"].startswith("not forgotten"):
            reason = "it has not forgotten"
        try:
            self.shelf.put(name, on=not reason)
        except UnlearnError as e:
            # another page has filled the stack meanwhile
            return f"The delta is saved but not on the stack. {e}"
        return f"The delta is on the stack but switched off, as {reason}: switch it on under Stack." if reason else ""

    def compared(
        self, job: Job, host: Any, prompts: Sequence[str], stacks: list[Stack], config: ForgetConfig
    ) -> tuple[Tensor | None, Tensor | None]:
        """Pictures before and after; none after a stop, which takes nothing away from what was learned."""
        try:
            return tuple(drawn_rows(job, host, stacks, prompts, config.seed, config.sampling_steps, config.guidance))
        except Cancelled:
            return None, None

    def draw(self, prompts: str, seed: Any, steps: Any, guidance: Any) -> Job:
        """Start to draw prompts without and with the stack. Raises `BadSetting`."""
        lines = read_prompts(prompts)
        if not lines:
            raise BadSetting("Write one prompt a line.")
        seed, steps = whole(seed, "Seed", 0, 2**32 - 1), whole(steps, "Steps", 1, 200)
        guidance = number(guidance, "Guidance", 1, 30)
        stack = self.shelf.stack(self.shelf.rows())

        def work(job: Job) -> Drawn:
            with self.door.model(job) as host:
                job.begin()
                check_fits(stack, host.fingerprint, host.architecture, host.layers())
                stacks = [Stack(), stack] if len(stack) else [Stack()]
                rows = drawn_rows(job, host, stacks, lines, seed, steps, guidance)
            folder = self.door.pictures_folder()
            folder.mkdir(parents=True, exist_ok=True)
            file = folder / f"before_after_{datetime.now():%Y-%m-%d_%H-%M-%S}_{job.id[:4]}.png"
            after = rows[1] if len(rows) > 1 else None
            save_pictures(file, lines, rows[0], after)
            return Drawn(paired(lines, data_urls(rows[0]), data_urls(after)), file)

        return self.jobs.start(DRAW, f"Drawing {len(lines)} prompt{'s' if len(lines) > 1 else ''}", work)

    def bake(self, name: str) -> Job:
        """Start to write a copy of the loaded checkpoint with the stack in it, beside the deltas or checkpoints."""
        stack = self.shelf.stack(self.shelf.rows())
        if not stack.active:
            raise UnlearnError("The stack is empty or switched off: there is nothing to bake in.")
        checkpoint = self.door.checkpoint()
        out = free_file(self.door.checkpoints_folder(), name.strip() or f"{checkpoint.stem} without {words(stack)}")

        def work(job: Job) -> Path:
            job.begin()
            layers = len({name for entry in stack.active for name in entry.delta.factors})
            done = count(1)
            bake(stack, checkpoint, out, lambda: job.tick(next(done), layers))
            return out

        return self.jobs.start(BAKE, f"Baking {out.name}", work)

    def merge(self, name: str, method: str, rank: Any) -> tuple[Card, str]:
        """One delta in place of those that are switched on, which leave the stack; (its card, a remark). Files stay.

        method: "exact" or "smaller", whose rank is taken. Raises `UnlearnError`.
        """
        rows = self.shelf.rows()
        stack = self.shelf.stack(rows)
        many = len(stack.active)
        remark = f"{many} deltas are one now, exactly, and off the stack; their files stay."
        if method == "smaller":
            merged, error = combine_svd(stack, whole(rank, "Rank", 1, 1024))
            remark = f"{many} deltas are one now, smaller (relative error {error:.1%}), and off the stack."
        else:
            merged = combine_cat(stack)
        file = free_file(self.door.folder(), name.strip() or f"forget {words(stack)}")
        save(Delta(merged.factors, merged.info, file.stem), file)
        self.door.saved(file)
        self.shelf.set((*(r for r in rows if not (r.on and r.strength)), Row(file.name)))
        return next(c for c in self.cards() if c.name == file.name), remark

    def cards(self) -> list[Card]:
        """All deltas in the folder, newest first."""
        return cards(self.door.folder())

    def lineage(self) -> list[str]:
        """Remarks on the stack as it is now; a file that cannot be read is one."""
        try:
            return lineage(self.shelf.stack(self.shelf.rows()))
        except UnlearnError as e:
            return [str(e)]

    def tags(self) -> str:
        """The stack as a text for a prompt."""
        on = [r for r in self.shelf.rows() if r.on and r.strength]
        return " ".join(f"<lora:{Path(r.name).stem}:{r.strength:g}>" for r in on)


def defaults(quality: str) -> dict[str, Any]:
    """Every setting's value under a quality. Raises `BadSetting` for an unknown one."""
    if quality not in QUALITIES:
        raise BadSetting(f"There is no quality '{quality}'; choose one of: {', '.join(QUALITIES)}.")
    return {f.name: f.default for f in settings()} | QUALITIES[quality]


def drawn_rows(
    job: Job, host: Any, stacks: list[Stack], prompts: Sequence[str], seed: int, steps: int, guidance: float
):
    """The prompts' pictures under each stack, `[prompts, 3, H, W]` each; raises `Cancelled` after a stop."""
    done, total = 0, len(stacks) * steps

    def tick() -> None:
        nonlocal done
        done += 1
        job.tick(min(done, total), total)

    return [pictures(host, s, prompts, seed, steps, guidance, tick) for s in stacks]


def paired(prompts: Sequence[str], before: Sequence[str], after: Sequence[str]) -> tuple[Pair, ...]:
    """Prompts with their addresses; after may be empty, and before as well."""
    return tuple(Pair(p, b, after[i] if after else "") for i, (p, b) in enumerate(zip(prompts, before, strict=False)))


def read_prompts(text: str) -> list[str]:
    """One prompt a line, white space folded. Raises `BadSetting`."""
    lines = [" ".join(line.split()) for line in str(text or "").splitlines()]
    lines = [line for line in lines if line]
    if len(lines) > MOST_PROMPTS:
        raise BadSetting(f"At most {MOST_PROMPTS} prompts at once, not {len(lines)}.")
    for line in lines:
        if len(line) > LONGEST_PROMPT or not line.isprintable():
            raise BadSetting(f"A prompt is one line of at most {LONGEST_PROMPT} readable characters.")
    return lines


def number(value: Any, label: str, low: float, high: float) -> float:
    """`value` as a number within bounds, or `BadSetting`."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = float("nan")
    if not low <= found <= high:
        raise BadSetting(f"{label}: '{value}' is not a number from {low:g} to {high:g}.")
    return found


def whole(value: Any, label: str, low: int, high: int) -> int:
    """`value` as a whole number within bounds, or `BadSetting`."""
    found = number(value, label, low, high)
    if found != int(found):
        raise BadSetting(f"{label}: '{value}' is not a whole number.")
    return int(found)


def words(stack: Stack) -> str:
    """What the active deltas forget, for a file's name."""
    return " ".join(c for e in stack.active for c in e.delta.info.concepts)
