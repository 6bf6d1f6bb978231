"""Forge and its relatives: a copy of the chosen checkpoint learns, read from its file.

Their own networks can only generate, not train; the delta fits them all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from backend import memory_management
from modules import sd_models
from modules_forge import main_thread

from ..unlearn_core import BadCheckpoint, HostModel
from ..unlearn_core.standalone.model import StandaloneModel


def checkpoint() -> Path:
    """The chosen checkpoint's file, which Forge itself reads for its first picture."""
    info = sd_models.model_data.forge_loading_parameters.get("checkpoint_info")
    if info is None:
        raise BadCheckpoint("No checkpoint is chosen: choose one at the top of the page.")
    return Path(info.filename)


@contextmanager
def copy() -> Iterator[HostModel]:
    """The chosen checkpoint as a model of our own; Forge's leaves the graphics memory until its next picture."""
    # all its work on models is done in one thread
    main_thread.run_and_wait_result(memory_management.unload_all_models)
    try:
        yield StandaloneModel(checkpoint(), memory_management.get_torch_device())
    finally:
        memory_management.soft_empty_cache()
