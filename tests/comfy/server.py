"""A real ComfyUI server in a process of its own, with throw-away folders and this repository as one of its packs."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
from pathlib import Path

import psutil

from tests.comfy import sources
from tests.comfy.client import DIRECT, Client

ROOT = sources.ROOT
PACK = "unlearn-deltas"
PROBE = Path(__file__).with_name("probe")
MODEL_FOLDERS = ("checkpoints", "loras", "vae", "text_encoders", "diffusion_models", "embeddings")
OTHER_FOLDERS = ("custom_nodes", "input", "output", "temp", "user")
NOT_COPIED = shutil.ignore_patterns(".*", "__pycache__", "demo-out")
LOG_LINES = 60


class BootError(Exception):
    """The server did not come up; the message ends with its log."""


class Server:
    """A context manager. `folder` is ComfyUI's base directory; it is made and belongs to this server.

    version: a key of `sources.SOURCES`. environment: variables of its process beside this one's.
    """

    def __init__(self, version: str, folder: Path, environment: dict[str, str] | None = None):
        self.version, self.folder, self.environment = version, folder, environment or {}
        self.models, self.output = folder / "models", folder / "output"
        self.log = folder / "server.log"
        self.tree = sources.tree(version)
        for name in MODEL_FOLDERS:
            (self.models / name).mkdir(parents=True, exist_ok=True)
        for name in OTHER_FOLDERS:
            (folder / name).mkdir(exist_ok=True)
        for pack, name in ((ROOT, PACK), (PROBE, PROBE.name)):
            if not (place := folder / "custom_nodes" / name).exists():
                link(pack, place)

    def __enter__(self) -> Server:
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        command = [sys.executable, str(Path(__file__).with_name("boot.py")), str(self.tree), str(self.tree / "main.py")]
        command += [*sources.ON, f"--base-directory={self.folder}", "--listen=127.0.0.1", f"--port={port}"]
        command += ["--disable-api-nodes", "--disable-auto-launch", "--database-url=sqlite:///:memory:"]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1", **self.environment}
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._await_answer(600)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def client(self) -> Client:
        """A new connection, to be used as a context manager."""
        return Client(self.address)

    def memory(self) -> int:
        """Bytes of main memory that its process holds now."""
        return psutil.Process(self.process.pid).memory_info().rss

    def log_text(self) -> str:
        """All that the server printed."""
        return self.log.read_text("utf-8", "replace")

    def log_tail(self, lines: int = LOG_LINES) -> str:
        """The last lines of it."""
        return "\n".join(self.log_text().splitlines()[-lines:])

    def stop(self) -> None:
        """End the server and all that it started."""
        if os.name == "nt":
            self.process.terminate()
        else:
            signal_group(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        if os.name != "nt":
            signal_group(self.process.pid, signal.SIGKILL)

    def _await_answer(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while True:
            code = self.process.poll()
            if code is not None:
                raise BootError(f"ComfyUI {self.version} ended with {code} at its start:\n{self.log_tail()}")
            try:
                with DIRECT.open(f"http://{self.address}/system_stats", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                if time.monotonic() > deadline:
                    raise BootError(
                        f"ComfyUI {self.version} did not answer in {seconds} s:\n{self.log_tail()}"
                    ) from None
                time.sleep(0.2)


def signal_group(group: int, number: int) -> None:
    """Send a signal to a process group, which may be gone already."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def link(pack: Path, place: Path) -> None:
    """Put a pack where ComfyUI looks: by a link, by a copy where links are not allowed."""
    try:
        place.symlink_to(pack, target_is_directory=True)
    except OSError:
        shutil.copytree(pack, place, ignore=NOT_COPIED)


def free_port() -> int:
    """A port of this machine on which nothing listens."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
