"""The stacks that a finished run has left, each balanced into one delta, and counted as the run was.

    python -m benchmarks.balanced FOLDER SEQUENCES --out OUT [--method ours:check=no] [--model world]

FOLDER, SEQUENCES, method: of a finished `python -m benchmarks sequence SEQUENCES --out FOLDER`. What is found is added
to the rows of OUT, from where `python -m benchmarks record` takes it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from unlearn_core.cli.console import run_command
from unlearn_core.delta.outputs import check_writable
from unlearn_core.errors import BadSetting
from unlearn_core.method.balance import balance
from unlearn_core.progress import StepReport

from .learned import Learned, stack_of, under
from .memory import peak_mb, start_peak
from .models import opened
from .results import key_of
from .row_passes import rows_counted
from .run import Plan, SequenceRun, told_of

NAME = "ours-balanced"
LABEL = "ours, then balanced"


def of_run(run: SequenceRun, done: SequenceRun, spec: str, seed: int) -> dict:
    """Balance what one run has left, and count it. run: where the row goes; done: the finished run of `spec`.

    Raises `BadSetting` where that run has not come to its end.
    """
    host, plan, requests = run.host, run.plan, run.questionnaire.requests
    wanted = {"method": spec, "sequence": plan.sequence, "seed": seed, "request": len(requests)}
    place = plan.folder(done.results.folder, spec, seed)
    past = [Learned.load(file) for file in sorted(place.glob("*.safetensors"), key=number_of)]
    if key_of(wanted) not in done.results.rows or len(past) < len(requests):
        raise BadSetting(f"{place} is not a finished run of {spec}: run the sequence with --out first.")
    run.reference(seed)
    start_peak()
    begun = time.monotonic()
    with (
        tqdm(total=1.0, desc=f"balancing {plan.sequence}", file=sys.stderr) as bar,
        rows_counted(host.backbone) as rows,
    ):

        def show(report: StepReport) -> None:
            bar.n = report.fraction
            bar.refresh()

        made = balance(host, stack_of(past), show, getattr(host, "general", None), plan.recipes)
    seconds, memory = time.monotonic() - begun, peak_mb()
    one = Learned(", ".join(r.concept for r in requests), made.delta, None, past[-1].replayed)
    one.save(plan.folder(run.results.folder, NAME, seed) / "balanced.safetensors")
    with under(host, [one]):
        now = plan.counting.look(host, run.questionnaire.asked(len(requests)), seed, plan.steps)
    earlier, replayed = done.earlier(wanted), frozenset(one.replayed)
    found = plan.counting.measurement(
        run.questionnaire, len(requests), now, run.reference(seed), earlier, replayed
    ).row()
    facts = {
        "label": LABEL,
        "concept": requests[-1].concept,
        "seconds": seconds,
        "row_passes": rows.count,
        "peak_memory_mb": memory,
        "moved_by": list(made.moved),
        "seen": list(made.seen),
    }
    return wanted | {"method": NAME} | facts | told_of(host, [one]) | found


def number_of(file: Path) -> int:
    """The request's number, with which a delta's name begins in a run's folder."""
    return int(file.name.partition("-")[0])


def measured(args: argparse.Namespace) -> int:
    """All sequences, each row written as soon as it is there."""
    check_writable(args.out / "results.json")
    host = opened(args.model, args.device)
    for name in args.sequences.split(","):
        plan = Plan(name, (args.method,), args.seeds, pictures=args.pictures, model=args.model)
        run, done = SequenceRun(plan, args.out, host), SequenceRun(plan, args.folder, host)
        for seed in range(args.seeds):
            row = of_run(run, done, args.method, seed)
            run.results.add(row)
            before, after = row["moved_by"]
            print(f"{name} seed {seed}: forgotten {row['ua_all']:.1%}, change of the rest {before:.2%} -> {after:.2%}")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.balanced", description="Stacks of a finished run, each balanced into one delta."
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="of a finished run")
    parser.add_argument("sequences", metavar="SEQUENCES", help="its sequences, divided by commas")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--method", default="ours:check=no", help="of the run (default: ours:check=no)")
    parser.add_argument("--model", default="world", help="of the run (default: world)")
    parser.add_argument("--seeds", type=int, default=1, help="of the run (default: 1)")
    parser.add_argument("--pictures", type=int, default=1, help="of a preserved concept, as in the run (default: 1)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ... (default: cpu)")
    parser.set_defaults(run=measured)
    return run_command(parser, sys.argv[1:] if arguments is None else arguments)


if __name__ == "__main__":
    raise SystemExit(main())
