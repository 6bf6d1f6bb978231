"""The command line: python -m unlearn_core demo | forget | stack | preview | inspect | benchmark."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from . import delta as delta_file
from . import stack_command
from .benchmark.options import benchmark_options
from .config import ForgetConfig, settings
from .console import STOPPED, StopOnInterrupt, check_writable, deltas_read, read_settings, read_stack
from .delta import SUFFIX, Delta
from .interfaces import BadSetting, Cancelled, StepReport, UnlearnError
from .paths import check_folder, check_outputs, read_with
from .prompts import WordList
from .stack import Stack, lineage


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 a mistake said in one sentence, 2 usage, 130 stopped."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a console of an old code page must not end the run
    args = parser().parse_args(arguments)
    try:
        return args.run(args)
    except Cancelled as e:
        print(e, file=sys.stderr)
        return STOPPED
    except UnlearnError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return STOPPED


def parser() -> argparse.ArgumentParser:
    """All commands and options."""
    top = argparse.ArgumentParser(prog="python -m unlearn_core", description="Make a local image model forget.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run, text: str) -> argparse.ArgumentParser:
        p = commands.add_parser(name, help=text, description=text)
        p.set_defaults(run=run)
        return p

    known = ", ".join(f.name for f in settings() if f.name not in ("concept", "anchor", "keep"))
    demo = command("demo", run_demo, "Forget a concept of the bundled demo model and show before and after.")
    demo.add_argument("--out", type=Path, default=Path("demo-out"), help="folder for pictures, delta and report")
    demo.add_argument("--concept", default="banana", help="an object or style of the demo model (default: banana)")
    forget = command("forget", run_forget, "Train a delta that makes a checkpoint forget a concept.")
    forget.add_argument(
        "--checkpoint",
        required=True,
        help="a Stable Diffusion 1, 2 or XL checkpoint (.safetensors or a diffusers folder)",
    )
    forget.add_argument("--concept", required=True, help="what to forget")
    forget.add_argument("--out", required=True, type=Path, help="the delta to write (.safetensors)")
    forget.add_argument("--preview", type=Path, help="write before and after pictures here (.png)")
    forget.add_argument("--report", type=Path, help="write the report here (.json)")
    for p in (demo, forget):
        p.add_argument("--anchor", default="", help="what to draw instead (default: chosen by the tool)")
        p.add_argument("--keep", action="append", default=[], help="a concept that must survive; may be repeated")
        p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=f"a setting: {known}")
    stack_command.add_options(command("stack", stack_command.run, stack_command.HELP))
    preview = command("preview", run_preview, "Draw prompts without and with a stack.")
    preview.add_argument("--checkpoint", required=True)
    preview.add_argument("--prompts", nargs="+", required=True, metavar="TEXT")
    preview.add_argument("--out", required=True, type=Path, help="the picture to write (.png)")
    preview.add_argument("--seed", type=int, default=0)
    preview.add_argument("--steps", type=int, default=20)
    preview.add_argument("--guidance", type=float, default=3.0)
    for p in (demo, forget, preview):
        p.add_argument("--stack", action="append", default=[], metavar="DELTA[:STRENGTH]", help="an earlier delta")
        p.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps ... (default: auto)")
    for p in (forget, preview):
        p.add_argument(
            "--prediction",
            choices=("epsilon", "v_prediction"),
            default="",
            help="what the checkpoint predicts (default: read off its tensors)",
        )
    demo.set_defaults(prediction="")
    inspect = command("inspect", run_inspect, "Show what a delta file says about itself.")
    inspect.add_argument("delta", metavar="DELTA.safetensors")
    inspect.add_argument("--json", action="store_true", help="machine-readable")
    benchmark_options(command("benchmark", run_benchmark, "Ten requests in a row beside published methods; speed."))
    return top


def run_demo(args: argparse.Namespace) -> int:
    """The whole job on the bundled checkpoint, counted by the bundled classifier."""
    from . import demo

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
    from .reporting import Bar, finished_report, save_pictures, write_json
    from .standalone import StandaloneModel, words_beside
    from .train import asked_for, forget

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
    from .preview import pictures
    from .reporting import Counter

    with Counter("drawing") as counter:
        how = prompts, config.seed, config.sampling_steps, config.guidance, counter.tick
        return [pictures(host, s, *how) for s in (stack, stack.with_delta(made))]


def classify_demo(host, stack: Stack, made: Delta, target: str, seed: int) -> dict:
    """The demo classifier's counts before and after, with a progress bar."""
    from . import demo
    from .reporting import Counter

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


def run_preview(args: argparse.Namespace) -> int:
    """First row without, second row with the stack."""
    from .preview import pictures
    from .reporting import Counter, save_pictures
    from .standalone import StandaloneModel

    check_outputs([("--out", args.out, ".png")], [*read_with(args.checkpoint), *deltas_read(args.stack)])
    check_writable(args.out)
    if not (1 <= args.steps <= 1000 and 1 <= args.guidance <= 30):
        raise BadSetting("Steps have to be from 1 to 1000 and guidance from 1 to 30.")
    stack = read_stack(args.stack)
    host = StandaloneModel(args.checkpoint, args.device, prediction_type=args.prediction)
    from .stack import check_fits

    check_fits(stack, host.fingerprint, host.architecture, host.layers())
    with Counter("drawing") as counter:
        rows = [
            pictures(host, s, args.prompts, args.seed, args.steps, args.guidance, counter.tick)
            for s in ([Stack(), stack] if len(stack) else [Stack()])
        ]
    save_pictures(args.out, args.prompts, rows[0], rows[1] if len(rows) > 1 else None)
    print(f"pictures: {args.out.resolve()}")
    return 0


def run_inspect(args: argparse.Namespace) -> int:
    """A delta's own words, as text or JSON."""
    from .reporting import described

    facts = described(delta_file.load(args.delta), Path(args.delta))
    if args.json:
        print(json.dumps(facts, indent=2, ensure_ascii=False))
    else:
        for name, value in facts.items():
            print(f"{name:18} {json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else value}")
    return 0


def run_benchmark(args: argparse.Namespace) -> int:
    """The measurements; their code is loaded only here."""
    from .benchmark.command import run

    return run(args)
