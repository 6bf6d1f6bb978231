"""Forge and what is built on it (reForge, Forge Classic): a copy of the chosen checkpoint learns, read from its file.

Their own networks can only generate, not train; the delta fits them all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modules import sd_models
from modules_forge import main_thread

from ..unlearn_core import BadCheckpoint, HostModel, UnlearnError
from ..unlearn_core.saved_work import cache_folder
from ..unlearn_core.standalone.model import StandaloneModel
from .host_model import chosen, data_folder, term_lists

NEEDED = ("unload_all_models", "get_torch_device", "soft_empty_cache")
UNKNOWN = (
    "Unlearn does not know this variant of Forge yet, so nothing can be forgotten in it: "
    "use Automatic1111, Forge, reForge or Forge Classic."
)


def memory() -> Any:
    """The host's part that moves models between memories. Raises `UnlearnError` in a host that has none we know."""
    for found in filter(None, (backend(), ldm_patched())):
        if all(callable(getattr(found, name, None)) for name in NEEDED):
            return found
    raise UnlearnError(UNKNOWN)


def backend() -> Any:
    """Of Forge since August 2024; None elsewhere."""
    try:
        from backend import memory_management
    except ImportError:
        return None
    return memory_management


def ldm_patched() -> Any:
    """Of reForge and Forge Classic, which have kept what Forge began with; None elsewhere."""
    try:
        from ldm_patched.modules import model_management
    except ImportError:
        return None
    return model_management


def checkpoint() -> Path:
    """The chosen checkpoint's file, which the host itself reads for its next picture. Raises `BadCheckpoint`."""
    parameters = getattr(sd_models.model_data, "forge_loading_parameters", None)
    if parameters is None:
        return Path(chosen().filename)
    info = parameters.get("checkpoint_info")
    if info is None:
        raise BadCheckpoint("No checkpoint is chosen: choose one at the top of the page.")
    return Path(info.filename)


@contextmanager
def copy() -> Iterator[HostModel]:
    """The chosen checkpoint as a model of our own; the host's leaves the graphics memory until its next picture."""
    host = memory()
    # all its work on models is done in one thread
    main_thread.run_and_wait_result(host.unload_all_models)
    try:
        model = StandaloneModel(checkpoint(), host.get_torch_device())
        model.term_lists = term_lists()
        model.cache_folder = cache_folder(data_folder() / "cache" / "unlearn")
        yield model
    finally:
        host.soft_empty_cache()
