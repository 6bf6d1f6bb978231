"""What each command of `python -m benchmarks` does."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

from unlearn_core.cli.console import read_settings
from unlearn_core.delta.outputs import check_writable
from unlearn_core.errors import BadSetting


def sequence(args: argparse.Namespace) -> int:
    """All rows, then table, plots and grids of everything that is in the folder."""
    from .report import write_up
    from .run import run

    check_writable(args.out / "results.json")
    results = run(plan_of(args), args.out, args.device)
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
    for one in tried(args.method, args.out, args.device, args.pictures, args.requests)["tried"]:
        print(f"UA {one['ua']:6.1%}  preserved {one['preserved']:6.1%}  {one['seconds']:5.0f} s  {one['method']}")
    return 0


def speed(args: argparse.Namespace) -> int:
    """What a step costs, a line a number."""
    from .speed import measure

    print_facts(measure(subject_of(args), read_settings(args.set)))
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
    """Seconds to the same forgetting, a row a trial, and meanwhile each one as it ends."""
    from .against import Counts, Race, Trial, cells, table
    from .models import DEMO, opened
    from .sequences import Request

    def told(trial: Trial) -> None:
        print(f"{trial.spec}: {trial.seconds:.0f} s, UA and retention {cells(trial)}", file=sys.stderr)

    host = opened(DEMO, args.device)
    print(table(Race(host, Counts.make(host, Request(args.concept))).run(told)))
    return 0


def gpu(args: argparse.Namespace) -> int:
    """The prepared check."""
    from .gpu import FILE, FULL, lines, measure

    check_writable(args.out / FILE)
    print("\n".join(lines(measure(args.out, args.device, args.size or FULL, args.steps))))
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


def record(args: argparse.Namespace) -> int:
    """Put a run's last rows into the committed results."""
    from .record import Origin, record_sequence

    print(record_sequence(args.folder, args.sequence, Origin(args.command, args.commit, args.group, args.model)))
    return 0
