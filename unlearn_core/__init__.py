"""Make local image models forget: sequential LoRA deltas, each trained with the earlier ones as its teacher."""

from .config import ForgetConfig, settings
from .delta import Delta, DeltaInfo, load, save
from .interfaces import (
    BadCheckpoint,
    BadDelta,
    BadSetting,
    Cancelled,
    Conditioning,
    HostModel,
    Progress,
    StepReport,
    TrainingFailed,
    UnlearnError,
)
from .stack import Entry, Stack
from .train import Result, forget

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
