"""python -m unlearn_core stack: merge deltas, take one out of the middle, bake them into a copy of a checkpoint."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path

from ..config import ForgetConfig
from ..delta import format as delta_file
from ..delta.bake import bake, check_places
from ..delta.format import SUFFIX, Delta
from ..delta.merge import combine_cat, combine_svd, merged_concept
from ..delta.outputs import (
    COPY,
    TEXT_SIZE,
    Output,
    check_outputs,
    check_possible,
    check_room,
    check_writable,
    prepare,
    size_of,
)
from ..delta.paths import check_folder, each_its_own, from_home, read_with, safe_file_name
from ..delta.removal import Removal, without
from ..delta.stack import Entry, Stack, lineage
from ..errors import BadSetting, Cancelled, one_line
from ..evaluate.stack_report import report_on
from ..host import HostModel, check_stack
from ..method.balance import balance
from ..method.finished import Model, finished
from ..method.forget import Result
from ..method.retrain import Retraining, recorded, retrain
from ..progress import Progress, StepReport
from ..saved_work import SavedWork
from ..words.compare import same_thing
from .console import StopOnInterrupt, check_is_there, checkpoint, deltas_read, device, print_notes, read_stack
from .failures import say
from .unfinished import only_run, unfinished

RANK = 8
"""Of a svd merge where none is given."""
HELP = "Merge deltas into one file, take one out, or bake them into a copy of a checkpoint."


def add_options(p: argparse.ArgumentParser) -> None:
    """The command's options."""
    p.add_argument("deltas", nargs="+", metavar="DELTA[:STRENGTH]", help="lowest first")
    p.add_argument("--out", type=from_home, help="the file to write (.safetensors); with --retrain a folder")
    p.add_argument("--method", choices=("cat", "svd"), default="cat", help="of merging: cat is exact, svd is smaller")
    p.add_argument("--rank", type=int, help=f"rank of the svd merge (default: {RANK})")
    p.add_argument(
        "--balance", action="store_true", help="one delta for all that changes less of the rest (needs --checkpoint)"
    )
    p.add_argument("--without", metavar="NAME", help="take this delta (its file's name or concept) out first")
    p.add_argument("--retrain", action="store_true", help="make those after it anew, without it (needs --checkpoint)")
    p.add_argument("--force", action="store_true", help="with --retrain: keep a delta that harms more than it may")
    p.add_argument("--into", type=from_home, metavar="CHECKPOINT", help="bake the stack into a copy of this checkpoint")
    p.add_argument("--checkpoint", type=checkpoint, help="the base: prints what the check finds before and after")
    p.add_argument(
        "--prediction",
        choices=("epsilon", "v_prediction"),
        default="",
        help="what the checkpoint predicts (default: what the deltas say)",
    )
    p.add_argument("--device", type=device, default="auto", help="cpu, cuda, cuda:1, mps ... (default: auto)")


def run(args: argparse.Namespace) -> int:
    """One of merge, bake, or retrain; with --without alone only says what taking it out would mean."""
    check_options(args)
    stack = whole = read_stack(args.deltas)
    removal = None
    if args.without is not None:
        removal = without(whole, spelled(whole, args.without))
        stack = removal.rest
        for sentence in removal.notes:
            print(f"note: {sentence}")
    else:
        for sentence in lineage(stack):
            say(f"note: {sentence}")
    if args.out and not (args.into or args.retrain):
        # which delta may be replaced is known only when all are read
        check_outputs([Output("--out", args.out, SUFFIX, concept=merged_concept(stack))], ())
    new = places(removal, args.out) if removal and args.retrain else []
    host = opened(args, whole) if args.checkpoint else None
    seen = {"before": whole}
    if removal and removal.after:
        seen["without it"] = stack
    if host and removal and args.retrain:
        seen["made anew"] = made_anew(host, removal, new, args.force)
    elif host and args.balance:
        seen["balanced"] = Stack().with_delta(balanced(host, stack, args.out))
    elif args.into:
        baked(stack, args.into, args.out)
    elif args.out:
        seen["merged"] = Stack().with_delta(merged(stack, args))
    if host and len(seen) > 1:
        print_reports(host, seen, whole)
    return 0


def check_options(args: argparse.Namespace) -> None:
    """Refuse what contradicts itself, and places that cannot be meant, before anything is loaded."""
    check_is_there(args.checkpoint, args.into)
    if args.retrain and not (args.without is not None and args.checkpoint and args.out):
        raise BadSetting("--retrain needs --without NAME, --checkpoint and --out FOLDER for the new deltas.")
    if args.force and not args.retrain:
        raise BadSetting("--force goes with --retrain.")
    if args.retrain and args.into:
        raise BadSetting("--retrain writes deltas: bake them with --into in a second command.")
    if args.balance and not (args.checkpoint and args.out):
        raise BadSetting("--balance needs --checkpoint, which draws and reads the pictures, and --out.")
    if args.balance and (args.retrain or args.into or args.method != "cat"):
        raise BadSetting("--balance writes one delta of its own: leave --method, --retrain and --into out.")
    if args.into and args.checkpoint and args.without is None:
        raise BadSetting("--into writes a copy and looks at nothing: leave --checkpoint out, or use it without --into.")
    if args.into and args.method != "cat":
        raise BadSetting("--into bakes the stack exactly: leave --method out.")
    if not args.out and (args.into or args.without is None):
        raise BadSetting("Say where to write with --out.")
    if args.rank is not None and args.method != "svd":
        raise BadSetting("--rank goes with --method svd: the exact merge has the rank of all its parts.")
    if args.rank is not None and args.rank < 1:
        raise BadSetting(f"The rank {args.rank} is too small: use 1 or more.")
    if args.retrain:
        check_folder("--out", args.out)
        check_possible("--out", args.out / f"x{SUFFIX}")
        check_room([(args.out, delta_room(args))])
        check_writable(args.out / "x")
    elif args.out:
        check_file(args)


def check_file(args: argparse.Namespace) -> None:
    """Refuse an output that would overwrite an input, that has no room, or that cannot have its companions."""
    checkpoints = [c for c in (args.into, args.checkpoint) if c]
    inputs = [*deltas_read(args.deltas), *(place for c in checkpoints for place in read_with(c))]
    if args.into:
        check_outputs([Output("--out", args.out, SUFFIX, mark=COPY)], inputs)
        check_places("--out", args.into, args.out)
    else:
        prepare([Output("--out", args.out, SUFFIX, delta_room(args))], inputs)


def delta_room(args: argparse.Namespace) -> int:
    """About the bytes of what is made of the deltas: a merge holds float32 numbers where its parts hold halves."""
    return TEXT_SIZE + 2 * sum(size_of(file) for _, file in deltas_read(args.deltas))


def spelled(stack: Stack, name: str) -> str:
    """A delta's file or concept as the stack spells it, "Frogs" as "frog"."""
    labels = (e.delta.label for e in stack)
    if name.strip().casefold() in map(str.casefold, labels):
        return name
    return next((c for e in stack for c in e.delta.info.concepts if same_thing(c, name)), name)


def places(removal: Removal, folder: Path) -> list[Path]:
    """Where the deltas that are made anew go, each its own file.

    Raises `BadSetting` before anything is loaded, also where a file is in the way that an earlier run of this command
    has not made.
    """
    configs = [recorded(entry.delta) for entry in removal.after]
    stems = each_its_own(safe_file_name(e.delta.label) for e in removal.after)
    found = [folder / f"{stem}{SUFFIX}" for stem in stems]
    for place, config, entry in zip(found, configs, removal.after, strict=True):
        finished(place, config, model_of(entry.delta))
    return found


def model_of(delta: Delta) -> Model:
    """Of the model that it was made for."""
    return delta.info.base, delta.info.prediction_type


def opened(args: argparse.Namespace, stack: Stack) -> HostModel:
    """The checkpoint, taken to predict what the deltas were made with, when the stack fits it."""
    from ..standalone.model import StandaloneModel

    said = {e.delta.info.prediction_type for e in stack}
    if len(said) > 1:
        raise BadSetting(f"The deltas were made on models that predict {' and '.join(sorted(said))}: they do not fit.")
    # an older command may have been told by hand what no tensor of the checkpoint says
    host = StandaloneModel(args.checkpoint, args.device, prediction_type=args.prediction or said.pop())
    check_stack(host, stack)
    print_notes(host.notes)
    return host


def merged(stack: Stack, args: argparse.Namespace) -> Delta:
    """Write the merge by concatenation (exact) or truncated SVD (smaller, its error printed)."""
    if args.method == "svd":
        made, error = combine_svd(stack, args.rank or RANK)
        print(f"relative error of the smaller merge: {error:.2e}")
    else:
        made = combine_cat(stack)
    named = made.named(one_line(args.out.stem))
    sha = delta_file.save(named, args.out)
    print(f"merged {counted(stack)} ({', '.join(stack.concepts())}) into {args.out.resolve()} (sha256 {sha[:16]})")
    return named


def counted(stack: Stack) -> str:
    """How many deltas."""
    return "1 delta" if len(stack) == 1 else f"{len(stack)} deltas"


def balanced(host: HostModel, stack: Stack, out: Path) -> Delta:
    """Write one delta in place of the stack, each concept led as far as it takes. Raises as `balance` does."""
    from .progress_bar import Bar

    with StopOnInterrupt() as stop, Bar() as bar:

        def show(report: StepReport) -> bool:
            bar.show(report, report.fraction)
            return stop.wanted

        made = balance(host, stack, show)
    named = made.delta.named(one_line(out.stem))
    sha = delta_file.save(named, out)
    print(f"balanced {counted(stack)} ({', '.join(stack.concepts())}) into {out.resolve()} (sha256 {sha[:16]})")
    print(made.change)
    if made.doubt:
        say(f"note: {made.doubt}")
    end_where_asked(stop)
    return named


def baked(stack: Stack, checkpoint: Path, out: Path) -> None:
    """Write the checkpoint's copy."""
    done = bake(stack, checkpoint, out)
    print(f"baked {', '.join(done.concepts)} into {out.resolve()} ({done.layers} layers, {done.bytes / 2**20:.0f} MB)")
    if done.left_out:
        print(f"left out: the EMA copy of the weights ({done.left_out} tensors), in which nothing is forgotten")
    for place in done.beside:
        print(f"beside it: {place.resolve()}")


def made_anew(host: HostModel, removal: Removal, new: list[Path], force: bool) -> Stack:
    """Train the later deltas anew and write each to its place as soon as it is ready.

    What an earlier run of this command had finished is taken from there, and what it had begun goes on.
    """
    from .progress_bar import Bar

    def place_of(old: Entry) -> Path:
        return new[removal.after.index(old)]

    with StopOnInterrupt() as stop, ExitStack() as locks, Bar() as bar:

        def progress(number: int, count: int) -> Progress:
            def show(report: StepReport) -> bool:
                bar.show(report, (number + report.fraction) / count)
                return stop.wanted

            return show

        def keep(old: Entry, made: Result) -> Delta:
            if made.report["stopped"]:
                raise Cancelled
            place = place_of(old)
            named = made.delta.named(place.stem)
            delta_file.save(named, place)
            return named

        def ready(old: Entry, config: ForgetConfig, below: Stack) -> Delta | None:
            return finished(place_of(old), config, model_of(old.delta), below)

        def saved(old: Entry) -> SavedWork:
            locks.enter_context(only_run(place_of(old)))
            return SavedWork(unfinished(place_of(old)))

        try:
            stack = retrain(host, removal, Retraining(progress, keep, ready, saved, force))
        except Cancelled:
            done = sum(place.exists() for place in new)
            ready_now = f"{done} of {len(new)} deltas are ready" + (f", in {new[0].parent}" if done else "")
            raise Cancelled(f"Stopped: {ready_now}. The same command goes on.") from None
    print(f"made anew: {', '.join(map(str, new)) or 'nothing, none came after it'}")
    end_where_asked(stop)
    return stack


def end_where_asked(stop: StopOnInterrupt) -> None:
    """Raise `Cancelled` where a stop came too late for what is made, since the check that follows takes long."""
    if stop.wanted:
        raise Cancelled("Stopped before the check of all together; what is made is saved.")


def print_reports(host: HostModel, seen: dict[str, Stack], whole: Stack) -> None:
    """The check's numbers of each stack, all on the same prompts and noise."""
    from .progress_bar import Counter

    with Counter("checking") as counter:
        found = report_on(host, list(seen.values()), whole, tick=counter.tick)
    for name, one in zip(seen, found, strict=True):
        print(one.line(name))
