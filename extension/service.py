"""What the buttons do: values of a page in, core calls, results out. Knows neither gradio nor a host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import compress
from pathlib import Path
from typing import Any

from torch import Tensor

from ..unlearn_core import (
    BadSetting,
    Delta,
    ForgetConfig,
    HostModel,
    Result,
    Stack,
    UnlearnError,
    save,
)
from ..unlearn_core.delta.bake import bake, check_places
from ..unlearn_core.delta.format import SUFFIX
from ..unlearn_core.delta.merge import combine_cat, combine_svd
from ..unlearn_core.delta.outputs import PICTURE_SIZE, TEXT_SIZE, check_room, check_writable, delta_size
from ..unlearn_core.delta.stack import FORGETS, Entry, lineage
from ..unlearn_core.host import check_stack
from ..unlearn_core.method.candidates import candidates
from ..unlearn_core.method.forget import forget_or_go_on
from ..unlearn_core.method.wishes import read_requests
from ..unlearn_core.picture_file import save_pictures
from ..unlearn_core.saved_work import SavedWork
from ..unlearn_core.standalone.model import words_beside
from ..unlearn_core.words.prompts import names
from .comparison import Comparison
from .delta_library import CARD_PICTURE, Card, card_of, cards, free_file, not_there
from .inputs import form_of, number, read_prompts, whole, written
from .jobs import Job, Jobs
from .open_folder import open_folder
from .pictures import data_urls, save_card
from .program import HostProgram
from .results import CandidatesResult, ForgetResult, Pair, PreviewResult, in_prompt, paired, together, told_after
from .stack_file import Row, StackFile

FORGET, PREVIEW, BAKE, CANDIDATES = "forget", "preview", "bake", "candidates"
ASKED = ("prompts", "seed", "steps", "guidance")
"""What a preview is asked for, in this order."""
UNFINISHED = ".unlearn_unfinished"
"""Folder beside the deltas for what stopped jobs have left, so that they go on when they are started again."""
GO_ON = "Start the same request again to go on from where it stopped."
SHOWN_LIVE = 6
"""Pictures of the target that are shown each time the check looks during training."""


@dataclass(frozen=True)
class ForgetRequest:
    """What one press of Start asks for. stack: what is learned on top of. prompts: the artist's own, to be shown."""

    config: ForgetConfig
    stack: Stack
    prompts: list[str]


class Service:
    """The jobs and the stack of one program; all its pages and its API share it.

    forms: what the last request of each kind has asked for, by name, for a page that is loaded again.
    """

    def __init__(self, program: HostProgram):
        self.program, self.jobs = program, Jobs()
        self.forms: dict[str, dict[str, Any]] = {}

    @property
    def stack_file(self) -> StackFile:
        """The stack in the folder that the program names now."""
        return StackFile(self.program.folder())

    def stack(self) -> Stack:
        """The deltas that are switched on now. Raises `UnlearnError`."""
        stack_file = self.stack_file
        return stack_file.stack(stack_file.rows())

    def forget(self, values: dict[str, Any], prompts: str = "") -> Job:
        """Start to forget on top of the stack. values: settings by name, of any type a page gives."""
        own, stack = read_prompts(prompts), self.stack()
        wish, configs = read_requests(values, self.words_file(), stack, self.program.term_lists(), rest=True)
        self.stack_file.check_room(len(configs))
        self.check_checkpoint(stack)
        self.check_place(configs)

        def work(job: Job) -> ForgetResult:
            with self.program.model(job) as host:
                job.begin()
                job.picture = lambda latents: data_urls(host.decode(latents[:SHOWN_LIVE]))
                made, now = [], stack
                for number, config in enumerate(configs):
                    job.part(number, len(configs), config.concept, 1.0 - pictures_share(config, own))
                    saved = SavedWork(self.program.folder() / UNFINISHED)
                    try:
                        result = forget_or_go_on(host, config, now, job.hear, saved)
                        if result.withheld:
                            job.show(together([*made, withheld(result)]))
                            raise UnlearnError(result.withheld)
                        found, now = self.keep(job, host, ForgetRequest(config, now, own), result)
                    except UnlearnError as e:
                        raise told_after(made, config.concept, e, [c.concept for c in configs[number + 1 :]]) from e
                    if not result.report["stopped"]:
                        saved.remove()
                    made.append(found)
                    job.show(together(made))
                    if job.view().stopping:
                        return together(made, [c.concept for c in configs[number + 1 :]])
                return together(made)

        names = ", ".join(f"'{c}'" for c in wish.concepts)
        job = self.jobs.start(FORGET, f"Forgetting {names}", work, wish.notes)
        self.remember(FORGET, {**form_of(configs[0], values), "prompts": prompts or ""})
        return job

    def remember(self, kind: str, form: dict[str, Any]) -> None:
        """Keep what a page's form held, the newest one last."""
        self.forms.pop(kind, None)
        self.forms[kind] = form

    def wished(self) -> dict[str, Any]:
        """What the form of a request held when it was last used, to start or to look for what could be drawn."""
        return {k: v for kind, form in self.forms.items() if kind in (FORGET, CANDIDATES) for k, v in form.items()}

    def offered(self) -> CandidatesResult | None:
        """What could be drawn instead of the concept that the form named last; None for any other."""
        job = self.jobs.newest(CANDIDATES)
        found = job.view().result if job else None
        same = self.wished().get("concept") == self.forms.get(CANDIDATES, {}).get("concept")
        return found if isinstance(found, CandidatesResult) and same else None

    def was_offered(self, name: str) -> bool:
        """Whether a name is one of what could be drawn instead."""
        found = self.offered()
        return found is not None and name in {offered for offered, _ in found.shown}

    def candidates(self, values: dict[str, Any]) -> Job:
        """Start to look for what could be drawn instead, with a picture of each. Raises `UnlearnError`.

        values: as of `forget`; of several concepts the first.
        """
        stack = self.stack()
        _, (config, *_) = read_requests({**values, "anchor": ""}, self.words_file(), stack, self.program.term_lists())
        self.check_checkpoint(stack)

        def work(job: Job) -> CandidatesResult:
            with self.program.model(job) as host:
                job.begin()
                found = candidates(host, config, stack)
                comparison = Comparison(job, host, [stack], config.seed, config.sampling_steps, config.guidance)
                (drawn,) = comparison.rows([c.prompt for c in found])
            names = (c.name for c in found)
            return CandidatesResult(config.concept, tuple(zip(names, data_urls(drawn), strict=True)))

        job = self.jobs.start(CANDIDATES, f"Looking for what could be drawn instead of '{config.concept}'", work)
        self.remember(CANDIDATES, form_of(config, values))
        return job

    def check_checkpoint(self, stack: Stack) -> None:
        """Raise `BadSetting` for a delta of the stack that was made for another checkpoint than the chosen one."""
        known = self.program.base()
        for entry in stack.active:
            if known is not None and not known.made(entry.delta.info.base_fingerprint, entry.delta.info.base_sample):
                raise BadSetting(
                    f"'{entry.delta.label}' was made for another checkpoint than {self.program.checkpoint_name()}: "
                    "choose that one, or switch this delta off in the Stack tab."
                )

    def check_place(self, configs: Sequence[ForgetConfig]) -> None:
        """Raise `UnlearnError` where the deltas' folder cannot be written, or its disk has no room for them."""
        folder, most = self.program.folder(), max(c.rank for c in configs)
        try:
            size = delta_size(self.program.checkpoint(), most)
        except UnlearnError:
            size = TEXT_SIZE  # that none is chosen is told when it is opened
        check_room([(folder, len(configs) * (size + PICTURE_SIZE))])
        check_folder(folder)

    def words_file(self) -> str | None:
        """The word list beside the chosen checkpoint; None where there is none, or no checkpoint yet."""
        try:
            return words_beside(self.program.checkpoint())
        except UnlearnError:
            return None

    def keep(self, job: Job, host: HostModel, request: ForgetRequest, result: Result) -> tuple[ForgetResult, Stack]:
        """Save a new delta, put it on the stack and show what it does; (what the page shows, the grown stack)."""
        config, stack = request.config, request.stack
        file, delta = self.saved(result.delta, f"forget {config.concept}")
        remark, on = self.put_on_stack(file.name, result.report)
        remarks = [remark, GO_ON if result.report["stopped"] else "", *lineage(stack)]
        stacks = [stack, stack.with_delta(delta)]
        comparison = Comparison(job, host, stacks, config.seed, config.sampling_steps, config.guidance)
        seen = [result.before, result.after]
        if result.before is None:
            job.stage(0.8 if request.prompts else 1.0)
            seen = comparison.rows_or_none(result.prompts)
        if seen[0] is not None:
            save_card(file.with_suffix(CARD_PICTURE), *(None if s is None else s[0] for s in seen))
        pairs, others = in_two(result, seen)
        job.stage(1.0)
        extra = paired(request.prompts, *map(data_urls, comparison.rows_or_none(request.prompts)))
        remark = " ".join(filter(None, remarks))
        below = " ".join(in_prompt(p.name, p.strength) for p in delta.info.parents if p.strength)
        made = ForgetResult(file, file.name, result.report, pairs, extra, others, remark, on, below=below)
        return made, stacks[1] if on else stack

    def saved(self, delta: Delta, wish: str) -> tuple[Path, Delta]:
        """A new file in the folder, called after the wish, and the delta under its name."""
        folder = self.program.folder()
        folder.mkdir(parents=True, exist_ok=True)
        file = free_file(folder, wish.removesuffix(SUFFIX))
        delta = delta.named(file.stem)
        save(delta, file)
        self.program.file_changed(file)
        return file, delta

    def put_on_stack(self, name: str, report: dict) -> tuple[str, bool]:
        """Put a new delta on top, switched off when it did not forget.

        (a sentence where it does not act, else "", whether it acts)
        """
        reason = "the run was stopped" if report["stopped"] else ""
        if report["check"]["verdict"].startswith("not forgotten"):
            reason = "the model still generates the concept"
        try:
            self.stack_file.put(name, on=not reason)
        except UnlearnError as e:
            # another page has filled the stack meanwhile
            return f"The delta is saved but not on the stack. {e}", False
        if not reason:
            return "", True
        off = f"The delta is on the stack but switched off, because {reason}. You can switch it on in the Stack tab."
        return off, False

    def preview(self, prompts: str, seed: Any, steps: Any, guidance: Any) -> Job:
        """Start to generate prompts without and with the stack. Raises `BadSetting`."""
        lines = read_prompts(prompts)
        if not lines:
            raise BadSetting("Write at least one prompt, one a line.")
        seed, steps = whole(seed, "Seed", 0, 2**32 - 1), whole(steps, "Steps", 1, 200)
        guidance = number(guidance, "Guidance", 1, 30)
        stack = self.stack()
        self.check_checkpoint(stack)
        check_room([(self.program.pictures_folder(), PICTURE_SIZE)])
        check_folder(self.program.pictures_folder())

        def work(job: Job) -> PreviewResult:
            with self.program.model(job) as host:
                job.begin()
                check_stack(host, stack)
                stacks = [Stack(), stack] if len(stack) else [Stack()]
                rows = Comparison(job, host, stacks, seed, steps, guidance).rows(lines)
            folder = self.program.pictures_folder()
            folder.mkdir(parents=True, exist_ok=True)
            file = folder / f"before_after_{datetime.now():%Y-%m-%d_%H-%M-%S}_{job.id[:4]}.png"
            after = rows[1] if len(rows) > 1 else None
            save_pictures(file, lines, rows[0], after)
            return PreviewResult(paired(lines, data_urls(rows[0]), data_urls(after)), file)

        job = self.jobs.start(PREVIEW, f"Generating {len(lines)} prompt{'s' if len(lines) > 1 else ''}", work)
        self.forms[PREVIEW] = dict(zip(ASKED, ("\n".join(lines), seed, steps, guidance), strict=True))
        return job

    def bake(self, name: str) -> Job:
        """Start to write a copy of the chosen checkpoint with the stack in it; the job's result is the new file."""
        named, stack = written(name, "Name"), self.stack()
        if not stack.active:
            raise UnlearnError("The stack is empty or switched off, so there is nothing to bake: add a delta first.")
        self.check_checkpoint(stack)
        checkpoint = self.program.checkpoint()
        wish = named or f"{checkpoint.stem} without {concepts(stack)}"
        out = free_file(self.program.checkpoints_folder(), wish)
        check_places("The copy", checkpoint, out)

        def work(job: Job) -> Path:
            job.begin()
            layers = len({name for entry in stack.active for name in entry.delta.factors})
            bake(stack, checkpoint, out, job.counter(layers, "writing"))
            return out

        return self.jobs.start(BAKE, f"Writing {out.name}", work)

    def merge(self, name: str, method: str, rank: Any) -> tuple[Card, str, float]:
        """One delta in place of those that are switched on, which leave the stack. Files stay.

        (its card, a remark, what it has lost as part of all change)

        method: "exact" or "smaller", whose rank is taken. Raises `UnlearnError`.
        """
        named, active = written(name, "Name"), [r for r in self.stack_file.rows() if r.acts]
        stack = self.stack_file.stack(tuple(active))
        if len(active) == 1:
            raise UnlearnError("One delta is one file already: there is nothing to merge it with.")
        how, error = "exactly", 0.0
        if method == "smaller":
            merged, error = combine_svd(stack, whole(rank, "Rank", 1, 1024))
            how = f"with a relative error of {error:.1%}"
        else:
            merged = combine_cat(stack)
        file, _ = self.saved(merged, named or f"forget {concepts(stack)}")
        self.stack_file.put_in_place(active, Row(file.name))
        remark = f"{len(stack.active)} deltas are merged {how}. They are off the stack, and their files stay."
        return next(c for c in self.cards() if c.name == file.name), remark, error

    def open_folder(self) -> str:
        """Show the deltas on this machine's screen; says so. Raises `UnlearnError`."""
        if not self.program.shows_folders:
            raise UnlearnError("This web UI is open to other machines, so it opens no folder on this one.")
        return open_folder(self.program.folder())

    def cards(self) -> list[Card]:
        """All deltas in the folder, newest first."""
        return cards(self.program.folder())

    def cards_of(self, rows: Sequence[Row]) -> dict[str, Card]:
        """The deltas of rows by name, as far as they can be read; also where a link leads to another folder."""
        folder = self.program.folder()
        found = (card_of(folder, folder / r.name) for r in rows if not r.wrong)
        return {card.name: card for card in found if card}

    def remarks(self) -> list[str]:
        """Remarks on the stack as it is now; a file that cannot be read is one."""
        try:
            stack = self.stack()
        except UnlearnError as e:
            return [str(e)]
        return [*lineage(stack), *(why for e in stack.active if (why := weakness(e)))]

    def tags(self) -> str:
        """The stack as a text for a prompt."""
        on = [r for r in self.stack_file.rows() if r.acts and not r.wrong]
        return " ".join(in_prompt(Path(r.name).stem, r.strength or 0) for r in on)


def check_folder(folder: Path) -> None:
    """Raise `UnlearnError` where no file can be saved in a folder; one that is not there is made."""
    if folder.exists() and not folder.is_dir():
        raise BadSetting(not_there(folder))
    check_writable(folder / "new")


def withheld(result: Result) -> ForgetResult:
    """What a run has found whose delta harms too much: its report and pictures, and no file."""
    pairs, others = in_two(result, [result.before, result.after])
    return ForgetResult(None, "", result.report, pairs, others=others, on=False)


def in_two(result: Result, seen: Sequence[Tensor | None]) -> tuple[tuple[Pair, ...], tuple[Pair, ...]]:
    """(the target's pictures, those of what should stay), by whether a prompt names it. seen: all before, and after."""
    pairs, concept = paired(result.prompts, *map(data_urls, seen)), result.report["concept"]
    asked = [names(p.prompt, concept) for p in pairs]
    return tuple(compress(pairs, asked)), tuple(p for p, own in zip(pairs, asked, strict=True) if not own)


def pictures_share(config: ForgetConfig, prompts: Sequence[str]) -> float:
    """The part of a run's bar for the pictures that follow the work: the fast edit takes about as long as they do."""
    return 0.5 if config.quality == "quick" else 0.15 if prompts else 0.0


def weakness(entry: Entry) -> str:
    """What speaks against a delta that is switched on, in a sentence, or ""."""
    delta = entry.delta
    if entry.strength < FORGETS:
        return f"'{delta.label}' is on the stack at strength {entry.strength:g}, which does not forget it: set it to 1."
    if entry.strength != 1.0:
        return f"'{delta.label}' is on the stack at strength {entry.strength:g}; it was made and checked at 1."
    if delta.info.stopped:
        return f"'{delta.label}' is switched on although its run was stopped."
    if str(delta.info.check.get("verdict", "")).startswith("not forgotten"):
        return f"'{delta.label}' is switched on although the model still generated the concept with it."
    return ""


def concepts(stack: Stack) -> str:
    """What the active deltas forget, for a file's name."""
    return " ".join(c for e in stack.active for c in e.delta.info.concepts)
