"""python -m unlearn_core demo: the whole job on the bundled checkpoint, counted by the bundled classifier."""

from __future__ import annotations

import argparse

from ..delta.atomic import write_json
from ..delta.paths import check_folder, safe_file_name
from ..demo import recognition
from ..errors import BadSetting
from .console import STOPPED
from .forget import forgotten, print_report
from .progress_bar import Counter


def run_demo(args: argparse.Namespace) -> int:
    """Forget a concept of the demo model; pictures, delta and report go into one folder."""
    recognition.check_present()
    names = [*recognition.world()["objects"], *recognition.world()["styles"]]
    concept = args.concept.strip().casefold()
    if concept not in names:
        raise BadSetting(f"The demo model does not know '{args.concept}'; choose one of: {', '.join(names)}.")
    check_folder("--out", args.out)
    folder, args.checkpoint, args.concept = args.out, str(recognition.CHECKPOINT), concept
    args.out = folder / f"forget-{safe_file_name(concept)}.safetensors"
    args.preview, args.report = folder / "before_after.png", folder / "report.json"
    report, host, stack, delta = forgotten(args)
    if not report["stopped"]:
        stacks = {"before": stack, "after": stack.with_delta(delta)}
        with Counter("counting") as counter:
            counted = recognition.measure(host, stacks, report["concept"], report["seed"], counter.tick)
        report["classifier"] = counted
        write_json(args.report, report)
    print_report(report, args)
    return STOPPED if report["stopped"] else 0
