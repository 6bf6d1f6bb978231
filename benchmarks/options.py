"""Options of `python -m unlearn_core benchmark`; the code behind them is loaded only when it runs."""

from __future__ import annotations

import argparse
from pathlib import Path


def benchmark_options(p: argparse.ArgumentParser) -> None:
    """One of --sequence, --search and --speed, and what goes with them."""
    what = p.add_mutually_exclusive_group(required=True)
    what.add_argument("--sequence", metavar="A|B|hard|long", help="requests in a row, counted after each")
    what.add_argument("--search", metavar="METHOD", help="try a method's own settings, over --requests (three)")
    what.add_argument("--speed", action="store_true", help="step time against the bare bound")
    p.add_argument(
        "--methods",
        default="ours",
        metavar="NAME[:KEY=VALUE+...],...",
        help="ours, published or single names, with settings: ours:rank=8+layers=cross (default: ours)",
    )
    p.add_argument("--robustness", action="store_true", help="of a sequence that was run: ask in other ways, attack it")
    p.add_argument("--seeds", type=int, default=1, help="number of seeds, 0 upwards (default: 1)")
    p.add_argument("--requests", type=int, help="only the first so many requests")
    p.add_argument("--pictures", type=int, default=8, help="counted pictures of a kept concept; twice that of a target")
    p.add_argument("--out", type=Path, help="folder for results, table, plots and grids; a second run goes on there")
    p.add_argument("--arch", default="demo", choices=("demo", "sd15", "sdxl"), help="with --speed: full-size networks")
    p.add_argument("--against", action="store_true", help="with --speed: time to one mark, beside LECO, iLECO, ESD")
    p.add_argument("--concept", default="banana", help="with --against: what is forgotten (default: banana)")
    p.add_argument("--resolution", type=int, help="with --speed: side of the pictures, in pixels")
    p.add_argument("--full-precision", action="store_true", help="with --speed: float32 throughout")
    p.add_argument("--whole", action="store_true", help="with --speed: also a whole run, and where its time goes")
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="with --speed: a setting")
    p.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps ... (default: auto)")
