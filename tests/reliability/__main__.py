"""`python -m tests.reliability NAME`, from a clone of the repository."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from unlearn_core.cli.console import run_command

from .measure import MEASUREMENTS, measure


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one measurement and print what failed; 1 when anything did."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability", description="Put the promises to the test.")
    parser.set_defaults(run=run)
    parser.add_argument("name", choices=MEASUREMENTS, metavar="NAME", help=", ".join(MEASUREMENTS))
    parser.add_argument("--count", type=int, help="how many cases, cycles or minutes (default: as in the table)")
    parser.add_argument("--out", type=Path, help="keep what was found in this file (.json)")
    return run_command(parser, sys.argv[1:] if arguments is None else list(arguments))


def run(args: argparse.Namespace) -> int:
    """The measurement that the arguments name."""
    outcome = measure(args.name, args.count, args.out)
    for failed in outcome.failed:
        print(f"{failed['case']}: {'; '.join(failed['wrong'])}")
    for name, value in {**outcome.counted, "held": f"{outcome.passed} of {outcome.tried}"}.items():
        print(f"{name:20} {value}")
    return 1 if outcome.failed else 0


if __name__ == "__main__":
    sys.exit(main())
