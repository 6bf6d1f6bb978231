"""python -m unlearn_core forget."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ..config import ForgetConfig
from ..delta.atomic import write_json
from ..delta.format import SUFFIX, Delta, save
from ..delta.paths import check_outputs, read_with
from ..delta.stack import Stack, lineage
from ..host import HostModel
from ..method.forget import Result, forget, summary
from ..method.request import asked_for
from ..progress import StepReport
from ..sampling import Sampler
from ..words.word_list import WordList
from .console import STOPPED, StopOnInterrupt, check_writable, deltas_read, print_rows, read_settings, read_stack
from .progress_bar import Bar, Counter
from .reports import finished_report


def run_forget(args: argparse.Namespace) -> int:
    """Make a delta, save it, report; a stopped run keeps its marked delta and ends with code 130."""
    report = forgotten(args)[0]
    print_report(report, args)
    return STOPPED if report["stopped"] else 0


def forgotten(args: argparse.Namespace) -> tuple[dict, HostModel, Stack, Delta]:
    """(report, host, the stack before, the new delta). Raises `UnlearnError`."""
    config = ForgetConfig.from_flat(read_settings(args.set) | given(args))
    outputs = ("--out", args.out, SUFFIX), ("--preview", args.preview, ".png"), ("--report", args.report, ".json")
    check_outputs(outputs, [*read_with(args.checkpoint), *deltas_read(args.stack)])
    for _, file, _ in outputs:
        check_writable(file)
    stack = read_stack(args.stack)
    from ..standalone.model import StandaloneModel, words_beside

    asked_for(config, WordList.load(words_beside(Path(args.checkpoint))), stack)
    for sentence in lineage(stack):
        print(f"note: {sentence}", file=sys.stderr)
    host = StandaloneModel(args.checkpoint, args.device, prediction_type=args.prediction)
    with StopOnInterrupt() as stop:
        result = with_bar(host, config, stack, stop)
        delta = result.delta.named(args.out.stem)
        sha = save(delta, args.out)
        report = finished_report(result.report, args.out, sha, host.layers())
        if args.preview:
            write_pictures(args.preview, host, config, result, (stack, stack.with_delta(delta)))
        if args.report:
            write_json(args.report, report)
    return report, host, stack, delta


def given(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that have options of their own, where they are used: else `--set` may name them."""
    values = {"concept": args.concept, "anchor": args.anchor, "keep": args.keep}
    return {name: value for name, value in values.items() if value}


def with_bar(host: HostModel, config: ForgetConfig, stack: Stack, stop: StopOnInterrupt) -> Result:
    """The run, with a progress bar."""
    with Bar() as bar:

        def progress(report: StepReport) -> bool:
            bar.show(report)
            return stop.wanted

        return forget(host, config, stack, progress)


def write_pictures(
    file: Path, host: HostModel, config: ForgetConfig, result: Result, stacks: tuple[Stack, Stack]
) -> None:
    """Before and after, which a run without the check has not drawn."""
    from ..picture_file import save_pictures

    before, after = result.before, result.after
    if before is None:
        before, after = drawn_now(host, config, result.prompts, stacks)
    save_pictures(file, result.prompts, before, after)


def drawn_now(
    host: HostModel, config: ForgetConfig, prompts: Sequence[str], stacks: tuple[Stack, Stack]
) -> list[Tensor]:
    """Pictures under each stack, `[prompts, 3, H, W]` each."""
    from ..preview import pictures

    with Counter("drawing") as counter:
        sampler = Sampler(host, config.sampling_steps, config.guidance, counter.tick)
        return [pictures(sampler, s, prompts, config.seed) for s in stacks]


def print_report(report: dict, args: argparse.Namespace) -> None:
    """The run in a few lines."""
    rows = summary(report)
    if counted := report.get("classifier"):
        rows.append(
            (
                "Classifier",
                "target {target_before:.1%} -> {target_after:.1%}, other objects {others_before:.1%} -> "
                "{others_after:.1%}, styles {styles_before:.1%} -> {styles_after:.1%}".format(**counted),
            )
        )
    files = ("Delta", args.out), ("Pictures", args.preview), ("Report", args.report)
    print_rows([*rows, *((label, str(file.resolve())) for label, file in files if file)])
