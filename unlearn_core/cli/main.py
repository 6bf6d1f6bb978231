"""The command line: python -m unlearn_core demo | forget | stack | preview | inspect."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ..config import settings
from ..delta.paths import from_home
from . import stack as stack_command
from .called import called
from .console import checkpoint, device, run_command
from .demo import run_demo
from .failures import silence_streams
from .forget import run_forget
from .inspect import run_inspect
from .preview import run_preview
from .signals import ignore

MOVED = "The benchmark has moved: run `python -m benchmarks --help` from a clone of the repository."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code, see `console.run_command`."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given[:1] == ["benchmark"]:
        print(MOVED, file=sys.stderr)
        return 2
    return run_command(parser(), given)


def program() -> NoReturn:
    """The command line as a process of its own: nothing that comes after the outcome may change it."""
    try:
        code = main()
    except SystemExit as e:  # of the help, and of a wrong option
        code = e.code if isinstance(e.code, int) else 0
    ignore()
    silence_streams()
    # Python's own end takes a while, and may turn a Ctrl-C that a library has met into its own exit code
    os._exit(code)


class Joined(argparse.Action):
    """What is given more than once, line by line, so that none of it is lost."""

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: str | None = None
    ) -> None:
        """Add one more line, or put the first one in the default's place."""
        known = getattr(namespace, self.dest)
        setattr(namespace, self.dest, values if known is self.default else f"{known}\n{values}")


def parser() -> argparse.ArgumentParser:
    """All commands and options."""
    top = argparse.ArgumentParser(prog=called(), description="Make a local image model forget.")
    top.add_argument("--debug", action="store_true", help="show warnings, and all details of what goes wrong")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        p = commands.add_parser(name, help=text, description=text)
        p.set_defaults(run=run)
        p.add_argument("--debug", action="store_true", help="show warnings, and all details of what goes wrong")
        return p

    known = ", ".join(f.name for f in settings() if f.name not in ("concept", "anchor", "keep"))
    demo = command("demo", run_demo, "Forget a concept of the bundled demo model and show before and after.")
    demo.add_argument("--out", type=from_home, default=Path("demo-out"), help="folder for pictures, delta and report")
    demo.add_argument("--concept", action=Joined, default="banana", help="one of the demo model's things or styles")
    forget = command("forget", run_forget, "Make a delta with which a checkpoint forgets a concept.")
    forget.add_argument(
        "--checkpoint",
        type=checkpoint,
        required=True,
        help="a Stable Diffusion 1, 2 or XL checkpoint (.safetensors or a diffusers folder)",
    )
    forget.add_argument("--concept", action=Joined, required=True, help="what to forget; several with commas")
    forget.add_argument("--out", required=True, type=from_home, help="the delta to write (.safetensors)")
    forget.add_argument("--preview", type=from_home, help="write before and after pictures here (.png)")
    forget.add_argument("--report", type=from_home, help="write the report here (.json)")
    for p in (demo, forget):
        p.add_argument("--anchor", action=Joined, default="", help="what to draw instead (default: chosen by the tool)")
        p.add_argument("--keep", action="append", default=[], help="a concept that must survive; may be repeated")
        p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=f"a setting: {known}")
        p.add_argument(
            "--force", action="store_true", help="start although the words are unclear, keep a delta that harms"
        )
        p.add_argument("--resume", action="store_true", help="go on from where a run of the same command was stopped")
    stack_command.add_options(command("stack", stack_command.run, stack_command.HELP))
    preview = command("preview", run_preview, "Draw prompts without and with a stack.")
    preview.add_argument("--checkpoint", type=checkpoint, required=True)
    preview.add_argument("--prompts", nargs="+", required=True, metavar="TEXT")
    preview.add_argument("--out", required=True, type=from_home, help="the picture to write (.png)")
    preview.add_argument("--seed", type=int, default=0)
    preview.add_argument("--steps", type=int, default=20)
    preview.add_argument("--guidance", type=float, default=3.0)
    for p in (demo, forget, preview):
        p.add_argument("--stack", action="append", default=[], metavar="DELTA[:STRENGTH]", help="an earlier delta")
        p.add_argument("--device", type=device, default="auto", help="cpu, cuda, cuda:1, mps ... (default: auto)")
    for p in (forget, preview):
        p.add_argument(
            "--prediction",
            choices=("epsilon", "v_prediction"),
            default="",
            help="what the checkpoint predicts (default: read off its tensors)",
        )
    demo.set_defaults(prediction="")
    inspect = command("inspect", run_inspect, "Show what a delta file says about itself.")
    inspect.add_argument("delta", type=from_home, metavar="DELTA.safetensors")
    inspect.add_argument("--all", action="store_true", help="everything that the file holds, its prompts too")
    inspect.add_argument("--json", action="store_true", help="everything, machine-readable")
    return top
