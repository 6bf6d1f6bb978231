"""python -m unlearn_core inspect."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..delta import format as delta_file


def run_inspect(args: argparse.Namespace) -> int:
    """A delta's own words, as text or JSON."""
    from .reports import described

    facts = described(delta_file.load(args.delta), Path(args.delta))
    if args.json:
        print(json.dumps(facts, indent=2, ensure_ascii=False))
    else:
        for name, value in facts.items():
            print(f"{name:18} {json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else value}")
    return 0
