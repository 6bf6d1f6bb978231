"""Make local image models forget: small LoRA deltas, each made on top of the earlier ones."""

from . import starting  # noqa: F401 - first, so that a stop is heard while the rest is imported
from .config import ForgetConfig, settings
from .delta.format import Delta, load, save
from .delta.info import DeltaInfo
from .delta.stack import Entry, Stack
from .errors import BadCheckpoint, BadDelta, BadSetting, Cancelled, TrainingFailed, UnlearnError
from .host import Conditioning, HostModel
from .method.forget import Result, forget
from .method.wishes import read_requests
from .progress import Progress, StepReport
from .standalone import StandaloneModel
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
    "read_requests",
    "save",
    "settings",
]
