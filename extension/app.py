"""The tab on its own: `python -m extension`, on the bundled demo model or a checkpoint file."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..unlearn_core import HostModel, UnlearnError
from ..unlearn_core.delta.base_sample import Base
from ..unlearn_core.demo.recognition import CHECKPOINT
from ..unlearn_core.standalone.checkpoint import open_checkpoint
from ..unlearn_core.standalone.model import StandaloneModel
from ..unlearn_core.words.term_lists import OWN_NAME
from .checkpoint_base import base_of
from .jobs import Job
from .server import FIRST_PORT, MOST_TRIES, PortTaken, free_port, serve
from .service import Service

FOLDER = Path("unlearn-out")
SECONDS_TO_END = 10.0
"""That a running job has to end after Ctrl-C; it hears a stop within a step, and a thread cut off in a pass aborts."""


class StandaloneProgram:
    """One checkpoint file, loaded when it is first needed; deltas and pictures go into one folder."""

    in_web_ui, shows_folders = False, True

    def __init__(self, checkpoint: Path, folder: Path, device: str = "auto"):
        self._file, self._folder, self._device = checkpoint, folder, device
        self._model: StandaloneModel | None = None
        self._lock = threading.Lock()

    def folder(self) -> Path:
        """Where deltas lie."""
        return self._folder

    def pictures_folder(self) -> Path:
        """Where before and after pictures are saved."""
        return self._folder

    def term_lists(self) -> tuple[Path, ...]:
        """The artist's own, beside the checkpoint."""
        return (self._file.parent / OWN_NAME,)

    def checkpoints_folder(self) -> Path:
        """Where a baked copy goes: not beside the bundled model."""
        return self._folder

    def checkpoint_name(self) -> str:
        """The checkpoint's name."""
        return "the bundled demo model" if self._file == CHECKPOINT else self._file.name

    def base(self) -> Base | None:
        """Read off the file, which need not be loaded for it."""
        return base_of(self._file)

    def checkpoint(self) -> Path:
        """The file itself."""
        return self._file

    @contextmanager
    def model(self, job: Job) -> Iterator[HostModel]:
        """The model; nobody else uses it."""
        with self._lock:
            if self._model is None:
                self._model = StandaloneModel(self._file, self._device)
            yield self._model

    def file_changed(self, file: Path) -> None:
        """Nobody has to be told."""


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    p = argparse.ArgumentParser(prog="python install.py app", description="The Unlearn tab in a page of its own.")
    p.add_argument(
        "--checkpoint", type=Path, default=CHECKPOINT, help="your model: Stable Diffusion 1, 2 or XL (.safetensors)"
    )
    p.add_argument("--out", type=Path, default=FOLDER, help=f"folder for deltas and pictures (default: {FOLDER})")
    p.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps ... (default: auto)")
    p.add_argument("--port", type=int, help=f"where the page is (default: {FIRST_PORT}, or the next one that is free)")
    p.add_argument("--no-browser", action="store_true", help="do not open the page")
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the page on this machine alone until Ctrl-C; returns the exit code."""
    args = parser().parse_args(arguments)
    if not args.checkpoint.is_file():
        return failed(f"There is no checkpoint at {args.checkpoint}.")
    if args.port is not None and not 1 <= args.port <= 65535:
        return failed(f"{args.port} is not a port: choose a number from 1 to 65535.")
    try:
        # first of all: what follows takes a while
        port = free_port([args.port] if args.port else range(FIRST_PORT, FIRST_PORT + MOST_TRIES))
    except PortTaken as e:
        return failed(str(e))
    if port != (args.port or FIRST_PORT):
        print(f"Port {FIRST_PORT} is in use, perhaps by Unlearn itself, so port {port} is taken.", flush=True)
    stay_offline()
    try:
        import gradio
    except ImportError as e:
        return failed(f"gradio is missing ({e}). Start the page with: python install.py app")
    from .tab import build, theme

    if args.out.exists() and not args.out.is_dir():
        return failed(f"--out: '{args.out}' is a file: name a folder, or move that file.")
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        open_checkpoint(args.checkpoint)  # what is no checkpoint is refused before the page opens
        service = Service(StandaloneProgram(args.checkpoint, args.out.resolve(), args.device))
        with gradio.Blocks(title="Unlearn", analytics_enabled=False, theme=theme()) as page:
            build(service, page)
        serve(page, port, not args.no_browser)
        service.jobs.end(SECONDS_TO_END)
    except (UnlearnError, PortTaken, OSError) as e:
        return failed(str(e))
    return 0


def stay_offline() -> None:
    """Keep gradio and transformers from asking the network, and quiet; called before either is imported."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    # beside a model cache of an old version it would warn that from_pretrained() fails, which nothing here needs
    logging.getLogger("transformers.utils.hub").setLevel(logging.ERROR)
    # what libraries say of each other's versions helps nobody who looks at the page
    warnings.simplefilter("ignore")


def failed(why: str) -> int:
    """Say in one sentence why there is no page; returns the exit code."""
    print(f"error: {why}", file=sys.stderr)
    return 1
