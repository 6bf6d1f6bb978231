"""python -m unlearn_core forget and demo."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..config import ForgetConfig
from ..delta import format as delta_file
from ..delta.format import SUFFIX, Delta
from ..delta.paths import check_folder, check_outputs, read_with
from ..delta.stack import Stack, lineage
from ..errors import BadSetting
from ..progress import StepReport
from ..words.word_list import WordList
from .console import STOPPED, StopOnInterrupt, check_writable, deltas_read, read_settings, read_stack


def run_demo(args: argparse.Namespace) -> int:
    """The whole job on the bundled checkpoint, counted by the bundled classifier."""
    from ..demo import recognition as demo

    names = [*demo.world()["objects"], *demo.world()["styles"]]
    concept = args.concept.strip().casefold()
    if concept not in names:
        raise BadSetting(f"The demo model does not know '{args.concept}'; choose one of: {', '.join(names)}.")
    args.checkpoint, args.concept = str(demo.CHECKPOINT), concept
    stem = delta_file.safe_file_name(concept)
    check_folder("--out", args.out)
    folder, args.out = args.out, args.out / f"forget-{stem}.safetensors"
    args.preview, args.report = folder / "before_after.png", folder / "report.json"
    return run_forget(args, classify=True)


def run_forget(args: argparse.Namespace, classify: bool = False) -> int:
    """Train, save, report; a stopped run keeps its marked delta and ends with code 130."""
    from ..delta.atomic import write_json
    from ..method.forget import asked_for, forget
    from ..preview import save_pictures
    from ..standalone.model import StandaloneModel, words_beside
    from .progress_bar import Bar
    from .reports import finished_report

    config = ForgetConfig.from_flat(
        read_settings(args.set) | {"concept": args.concept, "anchor": args.anchor, "keep": args.keep}
    )
    outputs = ("--out", args.out, SUFFIX), ("--preview", args.preview, ".png"), ("--report", args.report, ".json")
    check_outputs(outputs, [*read_with(args.checkpoint), *deltas_read(args.stack)])
    for _, file, _ in outputs:
        check_writable(file)
    stack = read_stack(args.stack)
    asked_for(config, WordList.load(words_beside(Path(args.checkpoint))), stack)
    for sentence in lineage(stack):
        print(f"note: {sentence}", file=sys.stderr)
    host = StandaloneModel(args.checkpoint, args.device, prediction_type=args.prediction)
    with StopOnInterrupt() as stop:
        with Bar() as bar:

            def progress(report: StepReport) -> bool:
                bar.show(report)
                return stop.wanted

            result = forget(host, config, stack, progress)
        named = Delta(result.delta.factors, result.delta.info, args.out.stem)
        sha = delta_file.save(named, args.out)
        report = finished_report(result.report, args.out, sha, host.layers())
        if args.preview:
            before, after = result.before, result.after
            if before is None:
                before, after = seen_now(host, config, result.prompts, stack, named)
            save_pictures(args.preview, result.prompts, before, after)
        if args.report:
            write_json(args.report, report)
    if classify and not report["stopped"]:
        report["classifier"] = classify_demo(host, stack, named, report["concept"], config.seed)
        write_json(args.report, report)
    print_report(report, args)
    return STOPPED if report["stopped"] else 0


def seen_now(host, config: ForgetConfig, prompts: Sequence[str], stack: Stack, made: Delta) -> list:
    """Pictures without and with the delta, which a run without the check has not drawn."""
    from ..preview import pictures
    from .progress_bar import Counter

    with Counter("drawing") as counter:
        how = prompts, config.seed, config.sampling_steps, config.guidance, counter.tick
        return [pictures(host, s, *how) for s in (stack, stack.with_delta(made))]


def classify_demo(host, stack: Stack, made: Delta, target: str, seed: int) -> dict:
    """The demo classifier's counts before and after, with a progress bar."""
    from ..demo import recognition as demo
    from .progress_bar import Counter

    with Counter("counting") as counter:
        return demo.measure(host, {"before": stack, "after": stack.with_delta(made)}, target, seed, counter.tick)


def print_report(report: dict, args: argparse.Namespace) -> None:
    """The run in a few lines."""
    judge = report["judge"]
    print(f"{report['concept']} -> {report['anchor'] or 'nothing in its place'} ({report['why']})")
    print(f"judge: {judge['verdict']}; {report['way']}, {report['seconds']:.0f} s {report['stopped']}")
    if counted := report.get("classifier"):
        print(
            "classifier: target {target_before:.1%} -> {target_after:.1%}, other objects {others_before:.1%} -> "
            "{others_after:.1%}, styles {styles_before:.1%} -> {styles_after:.1%}".format(**counted)
        )
    for label, file in (("delta", args.out), ("pictures", args.preview), ("report", args.report)):
        if file:
            print(f"{label}: {file.resolve()}")
