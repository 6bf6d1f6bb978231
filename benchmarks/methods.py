"""All methods by name, and how a name with settings is read: `ours`, `ours:rank=8+layers=cross`, `lacu-lora:far=1`."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Protocol

from unlearn_core.config import ForgetConfig, truth
from unlearn_core.errors import BadSetting

from .baselines.ablation import ConceptAblation
from .baselines.dfr import DFR
from .baselines.esd import ESD
from .baselines.gem import GEM
from .baselines.lacu import LACU, LACULoRA
from .baselines.null_space import CEASE, DP, SPEED
from .baselines.pure_noise import PureNoise
from .baselines.uce import OCE, UCE
from .joint import OursJoint
from .learned import Learned
from .ours import Ours, OursBlind, OursListed
from .task import Task


class Method(Protocol):
    """A way to forget one request on top of earlier ones."""

    name: ClassVar[str]
    label: ClassVar[str]
    GRID: ClassVar[dict]

    def learn(self, task: Task) -> Learned:
        """Learn one request on top of the earlier ones; the host is the base model before and afterwards."""
        ...


OTHERS = (ESD, GEM, PureNoise, ConceptAblation, UCE, DFR, LACU, LACULoRA)
EDITS = (OCE, SPEED, DP, CEASE)
"""In closed form as UCE, for the large world."""
METHODS: dict[str, type] = {m.name: m for m in (Ours, OursBlind, OursListed, OursJoint, *OTHERS, *EDITS)}
PUBLISHED = tuple(m.name for m in OTHERS)


def method(spec: str) -> Method:
    """`NAME[:KEY=VALUE+KEY=VALUE]` -> the method. Raises `BadSetting` for what is not known."""
    name, _, tail = spec.partition(":")
    if name not in METHODS:
        raise BadSetting(f"There is no method '{name}'; known are {', '.join(METHODS)}.")
    pairs = dict(split(part) for part in tail.split("+") if part)
    if issubclass(METHODS[name], Ours):
        ForgetConfig.from_flat(pairs | {"concept": "anything"})
        return METHODS[name](pairs)
    return METHODS[name](**{k: typed(METHODS[name], k, v) for k, v in pairs.items()})


def split(part: str) -> tuple[str, str]:
    """`KEY=VALUE` -> (key, value)."""
    key, equals, value = part.partition("=")
    if not (key and equals and value):
        raise BadSetting(f"'{part}' is not KEY=VALUE.")
    return key, value


def typed(cls: type, key: str, text: str) -> Any:
    """A setting's text as the type of its default, above zero where a number has to be."""
    known = {f.name: f.default for f in dataclasses.fields(cls)}
    if key not in known:
        raise BadSetting(f"{cls.name} has no setting '{key}'; known are {', '.join(known)}.")
    default = known[key]
    try:
        value = truth(text) if isinstance(default, bool) else type(default)(text)
    except ValueError:
        raise BadSetting(f"{cls.name}: {key} cannot be '{text}'.") from None
    if isinstance(value, (int, float)) and not isinstance(value, bool) and not 0 <= value < 1e6:
        raise BadSetting(f"{cls.name}: {key} cannot be {text}.")
    return value


def with_settings(spec: str, values: dict[str, Any]) -> str:
    """The spec of the same method with other settings."""
    name, _, tail = spec.partition(":")
    pairs = dict(split(part) for part in tail.split("+") if part) | {k: f"{v:g}" for k, v in values.items()}
    return name + (":" + "+".join(f"{k}={v}" for k, v in pairs.items()) if pairs else "")
