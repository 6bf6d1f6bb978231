"""Automatic1111, Forge and their relatives as the tab sees them: their folders, queue, progress and API."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gradio as gr
from modules import paths, script_callbacks, shared
from modules.call_queue import queue_lock

from ..unlearn_core import HostModel, StepReport, UnlearnError
from ..unlearn_core.delta.base_sample import Base
from . import api
from .checkpoint_base import base_of
from .host_events import only_own_pages
from .host_model import chosen, learning, term_lists
from .jobs import Job
from .service import Service
from .tab import build

PROMPT = "txt2img_prompt"
OPEN = (
    *("listen", "share", "server_name", "ngrok"),
    *("cloudflared", "localtunnel", "localhostrun", "remotemoe", "googleusercontent"),
)
"""Options by which a web UI is put on a network, where its owner chooses the name; the second line are tunnels'."""


class WebuiProgram:
    """The web UI that this runs in; its checkpoint is the one that is chosen when a job begins."""

    in_web_ui = True

    @property
    def shows_folders(self) -> bool:
        """Not where the web UI was started for other machines too."""
        return not under_other_names()

    def folder(self) -> Path:
        """The host's LoRA folder."""
        return Path(shared.cmd_opts.lora_dir).resolve()

    def pictures_folder(self) -> Path:
        """A folder among the host's outputs."""
        return Path(getattr(paths, "data_path", ".")) / "outputs" / "unlearn"

    def term_lists(self) -> tuple[Path, ...]:
        """Those of the host's extensions, and the artist's own."""
        return term_lists()

    def checkpoints_folder(self) -> Path:
        """Beside the chosen checkpoint."""
        return self.checkpoint().parent

    def checkpoint_name(self) -> str:
        """The chosen checkpoint's name, without the signs of its hash that the host puts behind it."""
        title = str(shared.opts.data.get("sd_model_checkpoint") or "the chosen checkpoint")
        return re.sub(r"\s*\[[0-9a-f]{6,64}\]$", "", title)

    def base(self) -> Base | None:
        """Read off the chosen file: another thread may be using the loaded model, which may not be the chosen one."""
        if not shared.opts.data.get("sd_model_checkpoint"):
            return None
        try:
            return base_of(self.checkpoint())
        except UnlearnError:
            return None

    def checkpoint(self) -> Path:
        """The chosen checkpoint's file; a refiner may be what is loaded."""
        return host_forge().checkpoint() if is_forge() else Path(chosen().filename)

    @contextmanager
    def model(self, job: Job) -> Iterator[HostModel]:
        """The chosen checkpoint, behind the host's queue; its progress shows the job, its Interrupt stops it."""
        with queue_lock:
            shared.state.begin(job="unlearn")
            try:
                job.interrupted = show_progress
                with loaded() as model:
                    yield model
            finally:
                shared.state.end()

    def file_changed(self, file: Path) -> None:
        """Let the host read its list of LoRAs again."""
        try:
            import networks
        except ImportError:
            return
        networks.list_available_networks()


def is_forge() -> bool:
    """Whether the host is Forge or built on it."""
    return find_spec("modules_forge") is not None


def host_forge() -> Any:
    """The code for Forge, which other hosts cannot import."""
    from . import host_forge as found

    return found


@contextmanager
def loaded() -> Iterator[HostModel]:
    """The host's model to learn on: its own in Automatic1111, a copy in Forge."""
    if is_forge():
        with host_forge().copy() as model:
            yield model
    else:
        with learning() as model:
            yield model


def show_progress(report: StepReport) -> bool:
    """Show a report on the host's own progress bar; True when its Interrupt or Skip was pressed."""
    state = shared.state
    state.job_count, state.job_no = 1, 0
    state.sampling_steps, state.sampling_step = 1000, round(1000 * report.fraction)
    return bool(state.interrupted or state.skipped or getattr(state, "stopping_generation", False))


@lru_cache(maxsize=1)
def service_of_all_pages() -> Service:
    """One for as long as the host runs: Reload UI makes new pages, and they show the jobs of before."""
    return Service(WebuiProgram())


def connect(title: str, name: str) -> None:
    """Add the tab and the API routes. Raises `UnlearnError` in a host in which nothing can be forgotten."""
    if is_forge():
        host_forge().memory()
    service, found = service_of_all_pages(), {}

    def remember(component: Any, **facts: Any) -> None:
        if facts.get("elem_id") == PROMPT:
            found[PROMPT] = component

    def tabs() -> list:
        with gr.Blocks(analytics_enabled=False) as page:
            build(service, page, found.get(PROMPT))
        only_own_pages(page, under_other_names())
        return [(page, title, name)]

    script_callbacks.on_after_component(remember)
    script_callbacks.on_ui_tabs(tabs)
    script_callbacks.on_app_started(lambda _, app: api.add(app, service, under_other_names()))


def under_other_names() -> bool:
    """Whether this web UI was started to be reached under other names than those of this machine."""
    return any(getattr(shared.cmd_opts, name, None) for name in OPEN)
