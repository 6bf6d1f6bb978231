"""python -m unlearn_core forget."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ..config import ForgetConfig, settings
from ..delta.atomic import write_json
from ..delta.bake import concepts_baked_into
from ..delta.format import SUFFIX, Delta, load, save
from ..delta.outputs import DELTA, PICTURE_SIZE, Output, delta_size, prepare
from ..delta.paths import each_its_own, read_with, safe_file_name
from ..delta.stack import Stack, lineage
from ..errors import BadDelta, BadSetting, Cancelled, UnlearnError, one_line
from ..host import HostModel, base_of
from ..method.finished import Model, check_parents, order_of, there
from ..method.forget import forget_or_go_on, summary
from ..method.request import Request
from ..method.wishes import read_requests
from ..progress import StepReport
from ..sampling import Sampler
from ..saved_work import SavedWork, discard, holds_work
from ..words.compare import same_thing
from ..words.term_lists import OWN_NAME
from .called import called
from .console import (
    STOPPED,
    StopOnInterrupt,
    check_is_there,
    deltas_read,
    print_notes,
    print_rows,
    read_settings,
    read_stack,
)
from .failures import say
from .progress_bar import Bar, Counter
from .reports import finished_report
from .unfinished import how_a_list_goes_on, how_it_goes_on, only_run, saved_work, say_how_it_goes_on, unfinished

WITHHELD = 1
"""The exit code where a delta harms too much to be saved."""


@dataclass(frozen=True)
class Files:
    """Where one concept's delta, pictures and report go; None: not wanted."""

    delta: Path
    preview: Path | None
    report: Path | None

    def outputs(self, size: int, concept: str) -> list[Output]:
        """All of them as `outputs.prepare` takes them. size: of the delta in bytes, about.

        concept: "" for a run that goes on, which leaves the pictures and the report of what is finished as they are.
        """
        mark = DELTA if concept else None
        return [
            Output("--out", self.delta, SUFFIX, size, concept=concept),
            Output("--preview", self.preview, ".png", PICTURE_SIZE, mark),
            Output("--report", self.report, ".json", mark=mark),
        ]

    def numbered(self, concepts: Sequence[str]) -> list[Files]:
        """One set for each concept, named after it where there are several."""
        if len(concepts) == 1:
            return [self]
        names = each_its_own(safe_file_name(c) for c in concepts)

        def own(file: Path | None, name: str) -> Path | None:
            return file and file.with_name(f"{file.stem}_{name}{file.suffix}")

        return [
            Files(self.delta.with_name(f"{self.delta.stem}_{n}{self.delta.suffix}"), *(own(f, n) for f in self._more))
            for n in names
        ]

    @property
    def _more(self) -> tuple[Path | None, Path | None]:
        return self.preview, self.report


@dataclass(frozen=True)
class Done:
    """One concept's outcome. before: the stack that it was made on. report: with the file's facts.

    saved: its work, until all is done. place: (number, count) among the concepts of one command, from 1. late: a stop
    was asked for when all was done.
    """

    host: HostModel
    before: Stack
    delta: Delta
    report: dict
    files: Files
    saved: SavedWork
    place: tuple[int, int] = (1, 1)
    late: bool = False


def run_forget(args: argparse.Namespace) -> int:
    """Make a delta for each concept, save them, report; a stopped run keeps its marked delta and ends with code 130.

    A delta that harms too much is not saved; the code is 1 then, when all is done.
    """
    code, saved = 0, list[Path]()
    for done in forgotten(args):
        if isinstance(done, Files):
            saved.append(done.delta.resolve())
            continue
        print_report(done)
        saved += [] if done.report["withheld"] else [done.files.delta.resolve()]
        if done.report["stopped"]:
            code = STOPPED
        elif done.report["withheld"]:
            code = WITHHELD
    if code != STOPPED:
        print_next(saved)
    return code


def print_next(files: Sequence[Path]) -> None:
    """What to do with the deltas that were made."""
    if len(files) == 1:
        print("Next: put the delta into your program's LoRA folder and load it at strength 1.")
    elif files:
        print(f"\nNext: put these {len(files)} files into your program's LoRA folder and load all of them:")
        print(*(f"  {file}" for file in files), sep="\n")
        print(f"Each at strength 1. To make one file of them: {called()} stack FILES --out ONE.safetensors")


def forgotten(args: argparse.Namespace, more: Callable[[Done], None] = lambda done: None) -> Iterator[Done | Files]:
    """Each concept's outcome, as soon as it is saved; only its files where an earlier run has finished it.

    more: what else has to be done before a concept is finished; not for one that was stopped. Raises `UnlearnError`,
    `Cancelled` where a stop leaves concepts that were not begun.
    """
    from ..standalone.model import StandaloneModel

    check_is_there(args.checkpoint)
    stack = read_stack(args.stack)
    wanted = list_of(args, stack)
    for sentence in lineage(stack):
        say(f"note: {sentence}")
    host = StandaloneModel(args.checkpoint, args.device, prediction_type=args.prediction)
    print_notes(host.notes)
    if args.resume:
        wanted = as_it_goes_on(wanted, host, stack)
    saved: list[Path] = []
    for number, (config, files) in enumerate(wanted, 1):
        if args.resume and (delta := ready(files, config, host, stack)):
            say(f"note: '{config.concept}' is finished already, in {files.delta}.")
            add_what_is_missing(files, host, config, (stack, stack.with_delta(delta)))
            stack = stack.with_delta(delta)
            saved.append(files.delta)
            yield files
            continue
        with only_run(files.delta):
            with StopOnInterrupt() as stop:
                done = made(host, config, stack, files, (stop, saved_work(files.delta, args.resume)))
            done = replace(done, place=(number, len(wanted)), late=stop.wanted)
            if not done.report["stopped"]:
                more(done)
                if not done.report["withheld"]:
                    discard(done.saved.folder)
        yield done
        if done.report["stopped"]:
            return
        if not done.report["withheld"]:
            stack = stack.with_delta(done.delta)
            saved.append(files.delta)
        if done.late and (left := [c.concept for c, f in wanted[number:] if not (args.resume and ready(f, c, host))]):
            raise Cancelled(how_a_list_goes_on(left, saved))


Wanted = list[tuple[ForgetConfig, Files]]
"""Each concept's request, and where it goes."""


def list_of(args: argparse.Namespace, stack: Stack) -> Wanted:
    """What is asked for, checked as far as that goes without the model, and what to know of it first."""
    from ..standalone.model import words_beside

    checkpoint = Path(args.checkpoint)
    wish, configs = read_requests(chosen(args), words_beside(checkpoint), stack, (checkpoint.parent / OWN_NAME,))
    places = Files(args.out, args.preview, args.report).numbered(wish.concepts)
    size = delta_size(args.checkpoint, max(c.rank for c in configs))
    # of a run that goes on `as_it_goes_on` tells more
    names = ["" if args.resume else config.concept for config in configs]
    outputs = [output for files, name in zip(places, names, strict=True) for output in files.outputs(size, name)]
    prepare(outputs, [*read_with(args.checkpoint), *deltas_read(args.stack)])
    if not args.force:
        ask_about_baked(args.checkpoint, wish.concepts)
    print_notes(wish.notes)
    return list(zip(configs, places, strict=True))


def as_it_goes_on(wanted: Wanted, host: HostModel, stack: Stack) -> Wanted:
    """The list in the order in which its deltas are made, of which an earlier run may have finished some.

    Raises `BadSetting` for a file in the way before the work on those before it.
    """
    found = [there(files.delta, config, model_of(host)) for config, files in wanted]
    order = order_of([files.delta for _, files in wanted], found, stack, on_top=wanted[0][0].force)
    return [wanted[i] for i in order]


def model_of(host: HostModel) -> Model:
    """Of the model, as a delta names it."""
    return base_of(host), host.prediction_type


def ask_about_baked(checkpoint: str, concepts: Sequence[str]) -> None:
    """Raise `BadSetting` where the checkpoint is a baked copy that has forgotten one of the concepts."""
    for gone in concepts_baked_into(Path(checkpoint)):
        if found := next((c for c in concepts if same_thing(c, gone)), ""):
            raise BadSetting(
                f"'{Path(checkpoint).name}' is a copy that has already forgotten '{gone}': '{found}' need not be "
                "forgotten again. --force does it all the same."
            )


def given(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that have options of their own, where they are used: else `--set` may name them."""
    values = {"concept": args.concept, "anchor": args.anchor, "keep": args.keep, "force": args.force}
    return {name: value for name, value in values.items() if value}


def chosen(args: argparse.Namespace) -> dict[str, Any]:
    """All settings. Raises `BadSetting` where `--set` says something else than the option."""
    named, own = read_settings(args.set), given(args)
    if hidden := next((f.name for f in fields(ForgetConfig) if f.name in named and f not in settings()), ""):
        raise BadSetting(f"--set {hidden}: the tool sets this by itself; name what is to go with --concept.")
    if twice := next((name for name in named if name in own and name != "force"), ""):
        raise BadSetting(f"--{twice} and --set {twice} both say what it is to be: use one of them.")
    return named | own


def ready(files: Files, config: ForgetConfig, host: HostModel, stack: Stack | None = None) -> Delta | None:
    """What an earlier run has finished: its delta is of this request, and all that it was asked for is written."""
    delta = there(files.delta, config, model_of(host))
    if delta is None or delta.info.stopped:
        return None
    if stack is not None:
        check_parents(files.delta, delta, stack)
    return None if holds_work(unfinished(files.delta)) else delta


def add_what_is_missing(files: Files, host: HostModel, config: ForgetConfig, stacks: tuple[Stack, Stack]) -> None:
    """Pictures that the run of a finished delta was not asked for; what cannot be made any more is told."""
    if files.preview and not files.preview.exists():
        request = Request.read(host, config, stacks[0])
        # those that a run without the check shows
        prompts = [s.prompt for s in request.held_out[: request.recipe.shown // 4]]
        write_pictures(files.preview, host, config, stacks, prompts)
        say(f"note: its pictures are drawn now, in {files.preview}.")
    elif files.preview:
        say(f"note: {files.preview} was there before and is left as it is.")
    if files.report and files.report.exists():
        say(f"note: {files.report} was there before and is left as it is.")
    elif files.report:
        say(
            f"note: {files.report} is not written, since only the run itself can report: see what the delta tells with "
            f"`{called()} inspect {files.delta}`, or make it anew without --resume."
        )


def made(
    host: HostModel, config: ForgetConfig, stack: Stack, files: Files, going: tuple[StopOnInterrupt, SavedWork]
) -> Done:
    """Make one delta, with a progress bar, and write its files; a delta that is withheld is not written.

    going: how it may be stopped, and go on later.
    """
    stop, saved = going
    unsaid = [saved] if saved.go_on else []
    with Bar() as bar:

        def progress(report: StepReport) -> bool:
            while unsaid:
                say_how_it_goes_on(unsaid.pop())
            bar.show(report)
            return stop.wanted

        try:
            result = forget_or_go_on(host, config, stack, progress, saved)
        except Cancelled as e:
            raise Cancelled(f"{e} {how_it_goes_on(saved)}") from e
        except UnlearnError:
            # the same would come again; what an earlier run has left may be of use where the memory was full
            if not saved.there:
                saved.remove()
            raise
    # as `load` calls it, so that a delta on top of it names the same parent
    delta = result.delta.named(one_line(files.delta.stem))
    report = result.report
    if report["stopped"] and is_whole(files.delta):
        say(f"note: {files.delta} is left as it is: an earlier run has finished it, and this one was stopped.")
        return Done(host, stack, delta, report, files, saved)
    if not result.withheld:
        report = finished_report(report, files.delta, save(delta, files.delta), host.layers())
    if files.preview:
        seen, stacks = (result.before, result.after), (stack, stack.with_delta(delta))
        write_pictures(files.preview, host, config, stacks, result.prompts, seen)
    if files.report:
        write_json(files.report, report)
    return Done(host, stack, delta, report, files, saved)


def is_whole(file: Path) -> bool:
    """Whether a finished delta is in a file."""
    try:
        return file.exists() and not load(file).info.stopped
    except BadDelta:
        return False


def write_pictures(
    file: Path,
    host: HostModel,
    config: ForgetConfig,
    stacks: tuple[Stack, Stack],
    prompts: Sequence[str],
    seen: tuple[Tensor | None, Tensor | None] = (None, None),
) -> None:
    """Before and after. seen: what the run has drawn of the prompts, which without the check is nothing."""
    from ..picture_file import save_pictures

    before, after = seen
    if before is None:
        before, after = drawn_now(host, config, prompts, stacks)
    save_pictures(file, prompts, before, after)


def drawn_now(
    host: HostModel, config: ForgetConfig, prompts: Sequence[str], stacks: tuple[Stack, Stack]
) -> list[Tensor]:
    """Pictures under each stack, `[prompts, 3, H, W]` each."""
    from ..preview import pictures

    sampler = Sampler(host, config.sampling_steps, config.guidance)
    with Counter("drawing", len(stacks) * sampler.ticks(len(prompts))) as counter:
        sampler = replace(sampler, tick=counter.tick)
        return [pictures(sampler, s, prompts, config.seed) for s in stacks]


def how_to_keep(done: Done) -> str:
    """What to do where a delta that was withheld is wanted all the same."""
    several, file = done.place[1] > 1, done.files.delta
    if not several and not done.saved.kept:
        return "add --force."
    # what is there was not made by this command
    first = f"move {file} away, then " if file.exists() and not done.saved.go_on else ""
    outcome = "it is made on top of those of the list that are saved" if several else "nothing is made anew"
    return f"{first}add --force --resume to the same command: {outcome}."


def print_report(done: Done) -> None:
    """The run in a few lines, under a heading where it is one of several."""
    number, count = done.place
    if count > 1:
        heading = f"{number} of {count}: {done.report['concept']}"
        print(f"\n{heading}\n{'-' * len(heading)}")
    rows = summary(done.report)
    if done.report["stopped"]:
        rows.append(("Goes on", how_it_goes_on(done.saved)))
    elif done.report["withheld"]:
        rows.append(("To keep it", how_to_keep(done)))
    if counted := done.report.get("classifier"):
        rows.append(
            (
                "Classifier",
                "target {target_before:.1%} -> {target_after:.1%}, other objects {others_before:.1%} -> "
                "{others_after:.1%}, styles {styles_before:.1%} -> {styles_after:.1%}".format(**counted),
            )
        )
    delta = None if done.report["withheld"] else done.files.delta
    files = ("Delta", delta), ("Pictures", done.files.preview), ("Report", done.files.report)
    print_rows([*rows, *((label, str(file.resolve())) for label, file in files if file)])
