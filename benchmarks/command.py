"""`python -m unlearn_core benchmark`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from unlearn_core.cli.console import check_writable, read_settings
from unlearn_core.delta.atomic import write_whole
from unlearn_core.errors import BadSetting

from .methods import METHODS, PUBLISHED


def run(args: argparse.Namespace) -> int:
    """Speed alone or against others, a sequence, a search, or other ways of asking."""
    if args.speed:
        return run_against(args) if args.against else run_speed(args)
    if args.out is None:
        raise BadSetting("Say where to write with --out FOLDER.")
    check_writable(args.out / "results.json")
    if args.search:
        return run_search(args)
    return run_robustness(args) if args.robustness else run_sequence(args)


def run_speed(args: argparse.Namespace) -> int:
    """What a step costs, a line a number."""
    from .speed import measure

    values = read_settings(args.set)
    half = not args.full_precision
    for name, value in measure(args.device, args.arch, values, args.resolution, half, args.whole).items():
        print(f"{name:20} {value}")
    return 0


def run_against(args: argparse.Namespace) -> int:
    """Seconds to the same forgetting, a row a trial, and meanwhile each one as it ends."""
    from .against import Trial, cells, measure, table

    def told(trial: Trial) -> None:
        print(f"{trial.spec}: {trial.seconds:.0f} s, UA and retention {cells(trial)}", file=sys.stderr)

    print(table(measure(args.device, args.concept, told)))
    return 0


def run_sequence(args: argparse.Namespace) -> int:
    """All rows, then table, plots and grids of everything that is in the folder."""
    from .run import Plan
    from .run import run as run_plan

    plan = Plan(args.sequence, specs(args.methods), args.seeds, args.requests, args.pictures)
    results = run_plan(plan, args.out, args.device)
    written = write_up(list(results.rows.values()), args.out, results.ended)
    print((args.out / "table.md").read_text(encoding="utf-8"))
    for file in written:
        print(file.resolve())
    return 0


def run_robustness(args: argparse.Namespace) -> int:
    """What a finished run draws when it is asked in other ways."""
    from tqdm import tqdm

    from .robustness import measure, ticks
    from .run import Plan

    plan = Plan(args.sequence, specs(args.methods), args.seeds, args.requests, args.pictures)
    with tqdm(total=ticks(plan), file=sys.stderr) as bar:

        def tick(words: str) -> None:
            bar.set_description_str(words)
            bar.update()

        measure(plan, args.out, args.device, tick)
    print((args.out / "robustness.md").read_text(encoding="utf-8"))
    return 0


def specs(text: str) -> tuple[str, ...]:
    """`ours,published` -> all methods that it names, each once."""
    names: list[str] = []
    for part in (p.strip() for p in text.split(",")):
        names += PUBLISHED if part == "published" else [part] if part else []
    if not names:
        raise BadSetting(f"Name at least one method: {', '.join(METHODS)}.")
    return tuple(dict.fromkeys(names))


def write_up(rows: list[dict], folder: Path, ended: Sequence[dict] = ()) -> list[Path]:
    """`table.md`, a plot a sequence, a grid a run, a grid of all methods' last rows. Returns what was written.

    ended: requests that could not be learned.
    """
    from unlearn_core.delta.paths import safe_file_name

    from .grids import assemble
    from .plots import draw
    from .run import Plan
    from .tables import table

    write_whole(folder / "table.md", table(rows, ended).encode())
    written = [folder / "table.md"]
    for sequence in dict.fromkeys(r["sequence"] for r in rows):
        here = [r for r in rows if r["sequence"] == sequence]
        written.append(folder / f"plot-{sequence}.png")
        draw(here, written[-1])
        sheet, ends = Plan(sequence, (), 1).sheet(), []
        for method, seed in dict.fromkeys((r["method"], r["seed"]) for r in here):
            place = folder / "runs" / safe_file_name(method) / f"{sequence}-{seed}"
            strips = [(f.stem, f) for f in sorted(place.glob("*.png"))]
            written.append(folder / f"grid-{sequence}-{safe_file_name(method)}-{seed}.png")
            assemble(sheet, folder / "base" / f"{sequence}.png", strips, written[-1])
            ends += [(method, f) for _, f in strips[-1:] if seed == 0]
        written.append(folder / f"methods-{sequence}.png")
        assemble(sheet, folder / "base" / f"{sequence}.png", ends, written[-1])
    return written


def run_search(args: argparse.Namespace) -> int:
    """Try and print, best first."""
    from .search import REQUESTS, search

    requests = REQUESTS if args.requests is None else args.requests
    found = search(args.search, args.out, args.pictures, args.device, requests)
    for one in found["tried"]:
        print(f"UA {one['ua']:6.1%}  kept {one['kept']:6.1%}  {one['seconds']:5.0f} s  {one['method']}")
    return 0
