"""python -m unlearn_core inspect."""

from __future__ import annotations

import argparse
import json

from ..delta import format as delta_file
from .console import print_rows

MORE = "--all shows everything that the file holds, its prompts too; --json the same for programs."


def run_inspect(args: argparse.Namespace) -> int:
    """A delta's own words: in a few lines, all of them, or as JSON."""
    from .reports import described, in_short

    delta, file = delta_file.load(args.delta), args.delta
    if not args.json and not args.all:
        print_rows(in_short(delta, file))
        print(MORE)
        return 0
    facts = described(delta, file)
    if args.json:
        # in ASCII alone: what goes into a file on Windows has the console's old code page, and JSON is UTF-8
        print(json.dumps(facts, indent=2))
        return 0
    for name, value in facts.items():
        print(f"{name:18} {json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else value}")
    return 0
