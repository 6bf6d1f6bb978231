"""Starts a web UI that is installed on this machine, in a folder of its own with the demo checkpoint.

Nothing is written into the web UI's own folder: its `--data-dir` is elsewhere. CPU only, full precision.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file

from tests.comfy.server import free_port
from unlearn_core.demo.recognition import FOLDER

ROOT = Path(__file__).resolve().parents[2]
SKIPPED = ("torch-cuda-test", "version-check", "python-version-check", "prepare-environment")
COMMON = ("--api", "--no-download-sd-model", *(f"--skip-{name}" for name in SKIPPED))
ON_CPU = {
    "a1111": ("--use-cpu", "all", "--no-half", "--precision", "full"),
    "forge": ("--always-cpu", "--all-in-fp32"),
}
STARTED_IN = 300
"""Seconds until the page and the API answer."""
READY = "Startup time:"
"""What all of them print at the end of a start."""
OTHER = "other"
"""A second checkpoint: the demo with slightly other weights."""


def kind_of(host: Path) -> str:
    """Whose options the web UI in a folder takes: "a1111", or "forge" for Forge and what is built on it."""
    return "forge" if (host / "modules_forge").is_dir() else "a1111"


def prepare(data: Path) -> None:
    """A web UI's folders with this repository as an extension, the probe beside it, and the two checkpoints."""
    links = {"extensions/unlearn": ROOT, "extensions/unlearn_probe": ROOT / "tests" / "hosts" / "probe"}
    models = data / "models" / "Stable-diffusion"
    data.mkdir(parents=True, exist_ok=True)
    # previews during a picture are drawn by a model that would have to be downloaded
    (data / "config.json").write_text(json.dumps({"live_previews_enable": False}), "utf-8")
    for folder in (models, data / "models" / "Lora", data / "extensions", data / "embeddings"):
        folder.mkdir(parents=True, exist_ok=True)
    for name, target in links.items():
        (data / name).unlink(missing_ok=True)
        (data / name).symlink_to(target)
    settings = (FOLDER / "demo.yaml").read_text("utf-8")
    shutil.copytree(FOLDER / "tokenizer", models / "tokenizer", dirs_exist_ok=True)
    tokenizer = (models / "tokenizer").as_posix()
    for name in ("demo", OTHER):
        (models / f"{name}.yaml").write_text(settings.replace("version: tokenizer", f"version: {tokenizer}"), "utf-8")
        shutil.copy(FOLDER / "demo.words.json", models / f"{name}.words.json")
    shutil.copy(FOLDER / "demo.safetensors", models)
    with safe_open(FOLDER / "demo.safetensors", "pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    moved = {n: v * 1.01 if n.startswith("model.") and v.ndim == 2 else v for n, v in weights.items()}
    save_file(moved, models / f"{OTHER}.safetensors")


class RunningHost:
    """A context manager; `address` is its page, `log` what it printed, `seconds` how long it took to start.

    options: more of its command line's.
    """

    def __init__(self, host: Path, python: Path, data: Path, *options: str):
        self.host, self.python, self.data, self.log = host, python, data, data / "host.log"
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        # else Forge, whose data folder is another here, keeps its own styles and scripts from its page
        places = [f"--data-dir={data}", f"--gradio-allowed-path={host}"]
        self.options = [*COMMON, *ON_CPU[kind_of(host)], *places, f"--port={self.port}", *options]

    def __enter__(self) -> RunningHost:
        prepare(self.data)
        begun = time.monotonic()
        quiet = {"HF_HUB_OFFLINE": "1", "GRADIO_ANALYTICS_ENABLED": "False", "PYTHONUNBUFFERED": "1"}
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [str(self.python), "launch.py", *self.options],
                cwd=self.host,
                env={"OMP_NUM_THREADS": "1", **os.environ, **quiet},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._await()
            self.seconds = time.monotonic() - begun
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for sign in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, sign)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
                return

    def log_text(self) -> str:
        """All that it printed."""
        return self.log.read_text("utf-8", "replace")

    def _await(self) -> None:
        deadline = time.monotonic() + STARTED_IN
        while True:
            if self.process.poll() is not None:
                raise ConnectionError(f"The web UI ended with {self.process.returncode}:\n{self.log_text()[-3000:]}")
            # not a request: Automatic1111 ends when one comes before all its parts are added
            if READY in self.log_text():
                return
            if time.monotonic() > deadline:
                raise ConnectionError(f"The web UI did not answer in {STARTED_IN} s:\n{self.log_text()[-3000:]}")
            time.sleep(0.5)
