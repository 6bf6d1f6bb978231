"""The trained models that sequences of requests are put to."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from torch import nn

from unlearn_core.demo.recognition import CHECKPOINT
from unlearn_core.errors import BadSetting
from unlearn_core.host import HostModel
from unlearn_core.sampling import Sampler
from unlearn_core.standalone.model import StandaloneModel

DEMO, WORLD, OPEN = "demo", "world", "world-open"
MODELS: dict[str, Path] = {
    DEMO: CHECKPOINT,
    "flow": CHECKPOINT.with_name("flow.safetensors"),
    "flow-t5": Path(__file__).parent / "beds" / "flow_t5.safetensors",
    **dict.fromkeys((WORLD, OPEN), Path(__file__).parent / "world" / "world.safetensors"),
}
"""{name: file}. flow: a joint-attention flow transformer that reads the demo's causal text encoder; flow-t5: the same
with a text encoder of its own, whose tokens depend on the whole prompt; world: 200 things in five styles, a quarter of
them in no word list; world-open: the same without a list beside it. In both the general list and the vocabulary count,
without these things."""


class OpenModel(HostModel, Protocol):
    """A model whose network is at hand."""

    backbone: nn.Module


def guidance_of(host: HostModel) -> float:
    """At which a model's pictures are drawn: its own, or the usual one where it tells none."""
    own = getattr(host, "guidance", None)
    return Sampler.guidance if own is None else own


def opened(name: str, device: str) -> OpenModel:
    """A model in float32 on every device. Raises `BadSetting` for an unknown name, and for one that is not made yet.

    In half precision, as it lies on a GPU, the small steps of methods that learn whole matrices would be rounded away.
    """
    if name not in MODELS:
        raise BadSetting(f"There is no model '{name}'; known are {', '.join(MODELS)}.")
    if name == DEMO:
        return StandaloneModel(CHECKPOINT, device, half=False)
    if name in (WORLD, OPEN):
        if not MODELS[name].exists():
            raise BadSetting(f"{MODELS[name].name} is missing: train it as benchmarks/world/README.md says.")
        from .world.host import World

        return World(MODELS[name], device, has_list=name == WORLD)
    from .beds.host import FlowBed

    return FlowBed(MODELS[name], device)
