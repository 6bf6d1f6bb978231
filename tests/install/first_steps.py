"""From nothing to the first picture: what README tells a newcomer to do, in an empty folder, against the clock.

usage: python -m tests.install.first_steps --out FOLDER [--comfyui] [--record COMMIT]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.doc_tables import RESULTS
from benchmarks.models import DEMO
from benchmarks.trials import recorded
from unlearn_core.errors import BadSetting

ROOT = Path(__file__).resolve().parents[2]
FILE = "first.json"
CLONED = "unlearn"
PICTURE = "demo-out/forget-banana.png"
PATIENCE = 1800.0
"""Seconds after which a step has failed."""
OFTEN = 0.1
"""Seconds between two looks whether a step is done."""


def measure(folder: Path, comfyui: bool, tell: Callable[[str], None] = lambda words: None) -> list[dict]:
    """Seconds of each step, as rows. folder: where the clone is made; it must not be there yet.

    comfyui: whether the real ComfyUI is started as well, which is brought there by the tests' sources. Raises
    `BadSetting` for a folder that is there and a step that fails.
    """
    place, python = folder / CLONED, getattr(sys, "_base_executable", sys.executable)
    if place.exists():
        raise BadSetting(f"{place} is there already: name an empty folder, so that nothing is made beforehand.")
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict] = []

    def step(what: str, command: Sequence[str], run: Callable[[list[str]], float]) -> None:
        spelt = [python, *command[1:]] if command[0] == "python" else list(command)
        rows.append({"what": what, "command": " ".join(command), "seconds": round(run(spelt), 1)})
        tell(f"{what}: {rows[-1]['seconds']:.0f} s")

    demo = ["python", "install.py", "demo", "--concept", "banana"]
    page = ["python", "install.py", "app", "--no-browser"]
    step("clone", ["git", "clone", str(ROOT), CLONED], lambda c: until_end(c, folder))
    rows[-1]["command"] = "git clone"
    step("first picture, packages installed", demo, lambda c: until_end(c, place, place / PICTURE))
    again = ["--out", "again"]
    step(
        "first picture of a second run", demo + again, lambda c: until_end(c, place, place / "again/forget-banana.png")
    )
    step("open page, packages installed", page, lambda c: until_open(c, place))
    step("open page, second start", page, lambda c: until_open(c, place))
    if comfyui:
        rows += [row | {"command": "template Forget one concept"} for row in in_comfyui()]
    return rows


def until_end(command: list[str], place: Path, file: Path | None = None) -> float:
    """Seconds until a program has ended, or has made a file: then its end is waited for, off the clock."""
    begun, seen = time.monotonic(), None
    program = subprocess.Popen(command, cwd=place)
    while program.poll() is None and time.monotonic() - begun < PATIENCE:
        if seen is None and file and file.is_file():
            seen = time.monotonic() - begun
        time.sleep(OFTEN)
    if program.poll() != 0 or (file and not file.is_file()):
        program.kill()
        raise BadSetting(f"{' '.join(command)} did not end well: see what it said above.")
    return time.monotonic() - begun if seen is None else seen


def until_open(command: list[str], place: Path) -> float:
    """Seconds until a program's page answers; then the program is asked to end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    begun = time.monotonic()
    program = subprocess.Popen([*command, "--port", str(port)], cwd=place)
    try:
        while not answers(port):
            if program.poll() is not None or time.monotonic() - begun > PATIENCE:
                raise BadSetting(f"{' '.join(command)} opened no page: see what it said above.")
            time.sleep(OFTEN)
        return time.monotonic() - begun
    finally:
        program.send_signal(signal.SIGTERM)
        program.wait()


def answers(port: int) -> bool:
    """Whether there is a page on this machine's port."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as page:
            return page.status == 200
    except (urllib.error.URLError, OSError):
        return False


def in_comfyui() -> list[dict]:
    """Rows of a program of the tests, which know the real host. Raises `BadSetting` where it fails."""
    command = [sys.executable, "-m", "tests.comfy.first_picture"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise BadSetting("tests.comfy.first_picture did not end well: see what it said above.")
    return json.loads(done.stdout.splitlines()[-1])


def record(rows: Sequence[dict], commit: str, file: Path) -> None:
    """Write the rows as a committed file of results."""
    note = f"{os.cpu_count()} processor cores, nothing else running, packages from a near server"
    recorded(rows, DEMO, (commit, "python -m tests.install.first_steps", note), file)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line a step, and where it is to be kept, write the file of results."""
    parser = argparse.ArgumentParser(description="Time what README tells a newcomer to do.")
    parser.add_argument("--out", type=Path, required=True, help="folder that the clone is made in")
    parser.add_argument("--comfyui", action="store_true", help="the first picture in the real ComfyUI as well")
    parser.add_argument("--record", metavar="COMMIT", help="keep the rows for the documentation, as this commit's")
    args = parser.parse_args(arguments)
    try:
        rows = measure(args.out, args.comfyui, lambda words: print(words, flush=True))
    except BadSetting as e:
        print(e, file=sys.stderr)
        return 1
    if args.record:
        record(rows, args.record, RESULTS / FILE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
