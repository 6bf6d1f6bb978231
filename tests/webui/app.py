"""`python -m extension` in a process and a folder of its own."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from pathlib import Path

from tests.comfy.server import free_port

ROOT = Path(__file__).resolve().parents[2]


class App:
    """A context manager; `address` is its page, `folder` where it keeps deltas and pictures."""

    def __init__(self, python: Path, folder: Path, small: bool = False):
        """small: with the recipe for tests."""
        self.program = [str(python), *(["tests/webui/small_app.py"] if small else ["-m", "extension"])]
        self.folder, self.log = folder, folder / "app.log"

    def __enter__(self) -> App:
        port = free_port()
        self.address = f"http://127.0.0.1:{port}"
        options = ["--no-browser", "--device=cpu", f"--port={port}", f"--out={self.folder}"]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [*self.program, *options],
                cwd=ROOT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self._await(port, 180)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)

    def log_text(self) -> str:
        """All that it printed."""
        return self.log.read_text("utf-8", "replace")

    def _await(self, port: int, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while True:
            if self.process.poll() is not None:
                raise ConnectionError(f"The app ended with {self.process.returncode}:\n{self.log_text()[-3000:]}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
            if time.monotonic() > deadline:
                raise ConnectionError(f"The app did not answer in {seconds} s:\n{self.log_text()[-3000:]}")
            time.sleep(0.2)
