"""Pictures in which the classifier sees nothing known after a request, though it does in the base model's.

It may be unsure of a thing that an eye sees at once, so a share alone does not tell whether anything broke.

    python -m benchmarks.unclear FOLDER SEQUENCES [--model flow] [--sheet SHEET.png]

FOLDER, SEQUENCES: of a finished `python -m benchmarks sequence SEQUENCES --out FOLDER`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from unlearn_core.cli.console import run_command
from unlearn_core.delta.outputs import check_writable
from unlearn_core.demo.classifier import OTHER, DemoClassifier
from unlearn_core.demo.recognition import FOLDER
from unlearn_core.picture_file import save_rows
from unlearn_core.preview import drawn
from unlearn_core.sampling import Sampler

from .learned import Learned, under
from .models import OpenModel, guidance_of, opened
from .questions import SEED
from .record import rows_of
from .run import Plan

METHOD = "ours"


@dataclass(frozen=True)
class Unclear:
    """One such picture, `[3, H, W]` in 0..1 before and after. label: what was forgotten, the seed and the caption."""

    label: str
    before: Tensor
    after: Tensor


def unclear(host: OpenModel, folder: Path, sequence: str, model: str) -> list[Unclear]:
    """All of a sequence's seeds after its last request; runs of which no picture was counted so are not drawn again.

    Raises `BadSetting` where the folder has none of its rows.
    """
    rows = [r for r in rows_of(folder, sequence) if r["method"] == METHOD]
    last, found = max(r["request"] for r in rows), []
    for row in sorted((r for r in rows if r["request"] == last and r["broken"]), key=lambda r: r["seed"]):
        plan = Plan(sequence, (METHOD,), 1, model=model)
        place = plan.folder(folder, METHOD, row["seed"])
        past = [Learned.load(file) for file in sorted(place.glob("*.safetensors"))[:last]]
        found += of_run(host, plan, past, row["seed"])
    return found


def of_run(host: OpenModel, plan: Plan, past: Sequence[Learned], seed: int) -> list[Unclear]:
    """One run's pictures of what is preserved, drawn with the noise with which they were counted."""
    asked = plan.questionnaire.preserved
    captions = [question.caption for question in asked]

    def pictures() -> Tensor:
        return drawn(Sampler(host, plan.steps, guidance_of(host)), captions, SEED + seed)

    before = pictures()
    with under(host, past):
        after = pictures()
    unknown = [[OTHER in answer for answer in recognised(some)] for some in (before, after)]
    words = f"{plan.sequence}, seed {seed}"
    return [
        Unclear(f"{words}: {captions[i]}", before[i], after[i])
        for i, (was, is_now) in enumerate(zip(*unknown, strict=True))
        if is_now and not was
    ]


def recognised(pictures: Tensor) -> list[tuple[str, str]]:
    """(object, style) of each picture."""
    return DemoClassifier.load(FOLDER / "classifier.safetensors").recognise(2 * pictures - 1)


def told(args: argparse.Namespace) -> int:
    """A line a picture, and the sheet."""
    if args.sheet:
        check_writable(args.sheet)
    host = opened(args.model, args.device)
    found = [one for name in args.sequences.split(",") for one in unclear(host, args.folder, name, args.model)]
    for one in found:
        print(one.label)
    if args.sheet and found:
        columns = {"before": [one.before for one in found], "after": [one.after for one in found]}
        save_rows(args.sheet, [one.label for one in found], {k: torch.stack(v) for k, v in columns.items()})
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.unclear", description="Pictures that a request has made unclear to the classifier."
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="of a finished run")
    parser.add_argument("sequences", metavar="SEQUENCES", help="its sequences, divided by commas")
    parser.add_argument("--model", default="flow", help="of the run (default: flow)")
    parser.add_argument("--sheet", type=Path, help="a picture of all of them, before and after")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ... (default: cpu)")
    parser.set_defaults(run=told)
    return run_command(parser, sys.argv[1:] if arguments is None else arguments)


if __name__ == "__main__":
    raise SystemExit(main())
