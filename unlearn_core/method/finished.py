"""What an earlier run of the same request had finished: a delta that is there need not be made again."""

from __future__ import annotations

from pathlib import Path

from ..config import ForgetConfig
from ..delta.format import Delta, load
from ..delta.stack import Stack
from ..errors import BadDelta, BadSetting

Base = tuple[str, str]
"""Fingerprint and prediction type of a model."""


def finished(file: Path, config: ForgetConfig, base: Base, stack: Stack | None = None) -> Delta | None:
    """The delta in `file` that this request has made; None where there is none yet, or a stopped run's.

    stack: what it has to be made on top of; None while that is not known. Raises `BadSetting` when another request or
    no request at all made the file: it is not to be overwritten.
    """
    if not file.exists():
        return None
    try:
        delta = load(file)
    except BadDelta as e:
        raise BadSetting(f"{file} is in the way ({e}) Choose another place, or delete it.") from e
    info = delta.info
    same = (info.base_fingerprint, info.prediction_type) == base and info.config == config.deciding()
    if not same or (stack is not None and info.parents != stack.parents()):
        raise BadSetting(f"{file} is there already, made by another request: choose another place, or delete it.")
    return None if info.stopped else delta
