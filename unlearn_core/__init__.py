"""Make local image models forget: sequential LoRA deltas, each trained with the earlier ones as its teacher."""

from typing import Any

from .config import ForgetConfig, settings
from .delta.format import Delta, load, save
from .delta.info import DeltaInfo
from .delta.stack import Entry, Stack
from .errors import BadCheckpoint, BadDelta, BadSetting, Cancelled, TrainingFailed, UnlearnError
from .host import Conditioning, HostModel
from .method.forget import Result, forget
from .progress import Progress, StepReport
from .version import __version__

__all__ = [
    "BadCheckpoint",
    "BadDelta",
    "BadSetting",
    "Cancelled",
    "Conditioning",
    "Delta",
    "DeltaInfo",
    "Entry",
    "ForgetConfig",
    "HostModel",
    "Progress",
    "Result",
    "Stack",
    "StandaloneModel",
    "StepReport",
    "TrainingFailed",
    "UnlearnError",
    "__version__",
    "forget",
    "load",
    "save",
    "settings",
]


def __getattr__(name: str) -> Any:
    """`StandaloneModel`, which a host that brings its own model has no need to load."""
    if name == "StandaloneModel":
        from .standalone import StandaloneModel

        return StandaloneModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
