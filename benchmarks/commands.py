"""What each command of `python -m benchmarks` does."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from datetime import date

from unlearn_core.cli.console import read_settings
from unlearn_core.delta.outputs import check_writable
from unlearn_core.errors import BadSetting

from .sequences import SEQUENCES


def sequence(args: argparse.Namespace) -> int:
    """All rows, then table, plots and grids of everything that is in the folder."""
    from .report import write_up
    from .run import run

    check_writable(args.out / "results.json")
    plans = [replace(plan_of(args), sequence=name) for name in args.sequence.split(",")]
    for plan in plans:
        plan.questionnaire.asked(1)  # so that a wrong name is refused before the first one runs
    results = [run(plan, args.out, args.device) for plan in plans][-1]
    written = write_up(list(results.rows.values()), args.out, results.ended, args.model)
    print((args.out / "table.md").read_text(encoding="utf-8"))
    for file in written:
        print(file.resolve())
    return 0


def robustness(args: argparse.Namespace) -> int:
    """What a finished run draws when it is asked in other ways."""
    from tqdm import tqdm

    from .models import DEMO, opened
    from .robustness import measure, ticks

    check_writable(args.out / "robustness.json")
    plan = plan_of(args)
    with tqdm(total=ticks(plan), file=sys.stderr) as bar:

        def tick(words: str) -> None:
            bar.set_description_str(words)
            bar.update()

        measure(plan, args.out, opened(DEMO, args.device), tick)
    print((args.out / "robustness.md").read_text(encoding="utf-8"))
    return 0


def plan_of(args: argparse.Namespace):
    """The plan that the options name."""
    from .run import Plan

    plan = Plan(args.sequence, specs(args.methods), args.seeds, args.requests, args.pictures)
    return replace(plan, model=getattr(args, "model", plan.model))


def specs(text: str) -> tuple[str, ...]:
    """`ours,published` -> all methods that it names, each once."""
    from .methods import METHODS, PUBLISHED

    names: list[str] = []
    for part in (p.strip() for p in text.split(",")):
        names += PUBLISHED if part == "published" else [part] if part else []
    if not names:
        raise BadSetting(f"Name at least one method: {', '.join(METHODS)}.")
    return tuple(dict.fromkeys(names))


def search(args: argparse.Namespace) -> int:
    """Try and print, best first."""
    from .search import search as tried

    check_writable(args.out / "results.json")
    found = tried(args.method, args.out, args.device, args.pictures, args.requests, args.model)
    for one in found["tried"]:
        print(f"UA {one['ua']:6.1%}  preserved {one['preserved']:6.1%}  {one['seconds']:5.0f} s  {one['method']}")
    return 0


def speed(args: argparse.Namespace) -> int:
    """What a step costs, a line a number."""
    if args.count:
        return count(args)
    from .speed import measure

    print_facts(measure(subject_of(args), read_settings(args.set)))
    return 0


def count(args: argparse.Namespace) -> int:
    """Rows through the denoiser and seconds of two checked requests on the same base, a line a phase."""
    from unlearn_core.config import ForgetConfig

    from .counts import one_after_the_other, table

    names = [name.strip() for name in args.concepts.split(",") if name.strip()]
    if not names:
        raise BadSetting("Name at least one concept to count for: --concepts banana,cat.")
    wishes = [ForgetConfig.from_flat({**read_settings(args.set), "concept": name}) for name in names]
    print(table(list(zip(names, one_after_the_other(subject_of(args).host(), wishes), strict=True))))
    return 0


def depth(args: argparse.Namespace) -> int:
    """A line a model, and where it is to be kept, a file of results."""
    from .depth import FILE, measure, record, trials_of
    from .doc_tables import RESULTS
    from .models import DEMO, opened

    check_writable(args.out / FILE)
    seeds = [int(s) for s in args.seeds.split(",")]
    trials = trials_of(args.concepts, seeds, read_settings(args.set))
    rows = measure(opened(DEMO, args.device), args.out, trials, lambda words: print(words, flush=True))
    if args.record:
        chosen = "".join(f" --set {one}" for one in args.set)
        command = f"python -m benchmarks depth {args.concepts} --seeds {args.seeds}{chosen}"
        record(rows, args.record, command, RESULTS / FILE)
    return 0


def everywhere(args: argparse.Namespace) -> int:
    """A line a model, and where it is to be kept, a file of results."""
    from .doc_tables import RESULTS
    from .everywhere import FILE, measure, record, trials_of
    from .stamp.host import opened

    check_writable(args.out / FILE)
    trials = trials_of([int(s) for s in args.seeds.split(",") if s.strip()], read_settings(args.set))
    rows = measure(opened(args.device), args.out, trials, lambda words: print(words, flush=True))
    if args.record:
        chosen = "".join(f" --set {one}" for one in args.set)
        record(rows, args.record, f"python -m benchmarks everywhere --seeds {args.seeds}{chosen}", RESULTS / FILE)
    return 0


def agreement(args: argparse.Namespace) -> int:
    """Verdicts of the sequential check beside those of the full one, a line a change."""
    from unlearn_core.demo.recognition import CHECKPOINT
    from unlearn_core.standalone.model import StandaloneModel

    from .agreement import CONCEPTS, FILE, FullLooks, measure

    named = tuple(pair.split(":") for pair in args.concepts.split(",")) if args.concepts else CONCEPTS
    if any(len(pair) != 2 for pair in named):
        raise BadSetting("Write each concept with its anchor: --concepts truck:car,pear:apple.")
    check_writable(args.out / FILE)
    looks = FullLooks(StandaloneModel(CHECKPOINT, args.device), args.out, tuple((c, a) for c, a in named))
    measure(looks, args.runs, args.commit)
    return 0


def profile(args: argparse.Namespace) -> int:
    """A whole run, a line a number."""
    from .speed import profile as measured

    print_facts(measured(subject_of(args), read_settings(args.set)))
    return 0


def subject_of(args: argparse.Namespace):
    """The model that the options name."""
    from .speed import Subject

    return Subject(args.device, args.arch, args.resolution, not args.full_precision)


def print_facts(facts: dict[str, str]) -> None:
    """Labels and values, one below the other."""
    for name, value in facts.items():
        print(f"{name:20} {value}")


def against(args: argparse.Namespace) -> int:
    """Seconds to the same forgetting, concept after concept; the rows of each as they come."""
    from .against import raced, raced_on, record
    from .doc_results import against
    from .doc_tables import RESULTS
    from .sequences import SEQUENCES

    def told(row: dict) -> None:
        end = f"at the mark after {row['at_mark']} of {row['steps']} steps, {row['seconds']:.0f} s"
        print(f"{row['concept']}, {row['method']}: {end}", file=sys.stderr)

    concepts = [c.strip() for c in args.concepts.split(",") if c.strip()] or [r.concept for r in SEQUENCES["A"]]
    host, rows = raced_on(args.device, not args.full_precision), []
    for concept in concepts:
        rows += raced(host, concept, args.out, told)
    print("\n".join(against({"rows": rows})))
    if args.record:
        command = "python -m benchmarks against" + " --full-precision" * args.full_precision
        command += f" --concepts {args.concepts}" if args.concepts else ""
        name = "against_float32" if args.full_precision else "against"
        record(rows, (args.record, command), host, RESULTS / f"{name}.json")
    return 0


def gpu(args: argparse.Namespace) -> int:
    """The prepared check."""
    from .gpu import FILE, FULL, lines, measure

    check_writable(args.out / FILE)
    print("\n".join(lines(measure(args.out, args.device, args.size or FULL, args.steps, args.whole_card))))
    return 0


def pictures(args: argparse.Namespace) -> int:
    """Make and name them."""
    from .pictures import make

    for file in make(args.names, args.quality):
        print(file)
    return 0


def widths(args: argparse.Namespace) -> int:
    """A row a layer."""
    from unlearn_core.standalone.model import pick_device

    from .doc_results import widths as table
    from .record import Origin, record_widths
    from .widths import measure

    rows = measure(device=pick_device(args.device))
    data = record_widths(rows, Origin("python -m benchmarks widths", args.record or "today"), keep=bool(args.record))
    print("\n".join(table(data)))
    return 0


def tables(args: argparse.Namespace) -> int:
    """Write or compare the generated tables."""
    from .doc_tables import outdated, write

    changed = outdated() if args.check else write()
    for name in changed:
        print(f"{'out of date' if args.check else 'written'}: {name}")
    if args.check and changed:
        print("Run: python -m benchmarks tables", file=sys.stderr)
        return 1
    return 0


def open_words(args: argparse.Namespace) -> int:
    """A row a way to preserve, each as it is done, then all in a file."""
    from unlearn_core.delta.atomic import write_json

    from .open_words import rows

    check_writable(args.out)
    found = []
    for row in rows(args.encoder):
        print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
        found.append(row)
    source = {
        "commit": args.commit,
        "date": date.today().isoformat(),
        "command": "python -m benchmarks open-words FOLDER",
        "device": "one CPU core, float32",
        "encoder": args.name,
    }
    write_json(args.out, {"sources": {"encoder": source}, "rows": [{"source": "encoder", **row} for row in found]})
    return 0


def vocabulary(args: argparse.Namespace) -> int:
    """Read the sources, write the file."""
    from .vocabulary.make import TARGET, Sources, make, write

    check_writable(TARGET)
    rows = make(Sources(args.wordnet, args.clip_interrogator))
    write(rows)
    print(f"{len(rows)} terms, {TARGET.stat().st_size} bytes: {TARGET}")
    return 0


def record(args: argparse.Namespace) -> int:
    """Put a run's last rows into the committed results."""
    from .models import OPEN, WORLD
    from .record import Origin, record_alone, record_search, record_sequence

    origin = Origin(args.command, args.commit, args.group, args.model)
    if args.sequence == "search":
        print(record_search(args.folder, origin))
        return 0
    if args.model in (WORLD, OPEN):
        from .doc_tables import RESULTS
        from .world.record import record_world

        print(record_world(args.folder, args.sequence, origin, RESULTS))
        return 0
    write = record_sequence if args.sequence in SEQUENCES else record_alone
    print(write(args.folder, args.sequence, origin))
    return 0
