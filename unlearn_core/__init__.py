"""Make local image models forget: sequential LoRA deltas, each trained with the earlier ones as its teacher."""

from .config import ForgetConfig, settings
from .delta.format import Delta, load, save
from .delta.info import DeltaInfo
from .delta.stack import Entry, Stack
from .errors import BadCheckpoint, BadDelta, BadSetting, Cancelled, TrainingFailed, UnlearnError
from .host import Conditioning, HostModel
from .method.forget import Result, forget
from .progress import Progress, StepReport

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
    "StepReport",
    "TrainingFailed",
    "UnlearnError",
    "forget",
    "load",
    "save",
    "settings",
]
