"""Forge and its relatives: a copy of the chosen checkpoint learns, read from its file.

Their own networks can only generate, not train; the delta fits them all the same. Forge and Forge Neo keep their models
in `backend`, reForge and Forge Classic in `ldm_patched` as Forge did at first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..unlearn_core import BadCheckpoint, HostModel, UnlearnError
from ..unlearn_core.standalone.model import StandaloneModel

NEEDED = ("unload_all_models", "get_torch_device", "soft_empty_cache")
UNKNOWN = (
    "This web UI ({version}) is built on Forge in a way that this extension does not know ({what} is missing). "
    "Use Forge, reForge, Automatic1111 or ComfyUI, or the tab alone: python -m extension."
)


def memory() -> Any:
    """The host's own module that moves models. Raises `UnlearnError` where there is none that we know."""
    for found in filter(None, (backend(), ldm_patched())):
        if all(callable(getattr(found, name, None)) for name in NEEDED):
            return found
    raise unknown("its memory management")


def backend() -> Any:
    """Of Forge since August 2024, and Forge Neo; None elsewhere."""
    try:
        from backend import memory_management
    except ImportError:
        return None
    return memory_management


def ldm_patched() -> Any:
    """Of reForge, Forge Classic and earlier versions of Forge; None elsewhere."""
    try:
        from ldm_patched.modules import model_management
    except ImportError:
        return None
    return model_management


def main_thread() -> Callable:
    """What runs a function where the host does all its work on models. Raises `UnlearnError`."""
    try:
        from modules_forge.main_thread import run_and_wait_result
    except ImportError:
        raise unknown("modules_forge.main_thread") from None
    return run_and_wait_result


def check() -> None:
    """Raise `UnlearnError` in a host that lacks what we need, before anybody presses Start."""
    memory()
    main_thread()


def unknown(what: str) -> UnlearnError:
    """The sentence on what a host lacks."""
    try:
        from modules_forge.forge_version import version
    except ImportError:
        version = "of an unknown version"
    return UnlearnError(UNKNOWN.format(version=version, what=what))


def checkpoint() -> Path:
    """The chosen checkpoint's file. Raises `BadCheckpoint`."""
    from modules import sd_models

    # Forge reads this one for its first picture, the others the one that is chosen in the settings
    loading = getattr(getattr(sd_models, "model_data", None), "forge_loading_parameters", None)
    try:
        info = sd_models.select_checkpoint() if loading is None else loading.get("checkpoint_info")
    except (FileNotFoundError, SystemExit):
        info = None
    if info is None:
        raise BadCheckpoint("No checkpoint is chosen: choose one at the top of the page.")
    return Path(info.filename)


@contextmanager
def copy() -> Iterator[HostModel]:
    """The chosen checkpoint as a model of our own; the host's leaves the graphics memory until its next picture."""
    moving = memory()
    # all its work on models is done in one thread
    main_thread()(moving.unload_all_models)
    try:
        yield StandaloneModel(checkpoint(), moving.get_torch_device())
    finally:
        moving.soft_empty_cache()
