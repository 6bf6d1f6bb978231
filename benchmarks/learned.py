"""What a request leaves behind, whatever the method: a delta, or changes of parameters; put on and taken off."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from unlearn_core.delta import format as delta_file
from unlearn_core.delta.atomic import write_whole
from unlearn_core.delta.format import Delta
from unlearn_core.delta.stack import Stack

from .models import OpenModel

KIND = "unlearn.benchmark"
"""Metadata key of a file with changes of whole parameters, which is no delta and is loaded nowhere else."""


@dataclass(frozen=True)
class Learned:
    """One request's outcome: `delta`, or `dense` {parameter of the UNet: what is added to it, same shape}.

    concept: what is forgotten. replayed: concepts whose pictures the method has trained on to preserve them.
    anchor: what is drawn instead.
    """

    concept: str
    delta: Delta | None = None
    dense: dict[str, Tensor] | None = None
    replayed: tuple[str, ...] = ()
    anchor: str = ""
    prompts: tuple[tuple[str, str], ...] = ()
    steps: int = 0

    def numbers(self) -> int:
        """How many values it is made of."""
        if self.delta:
            return sum(f.down.numel() + f.up.numel() for f in self.delta.factors.values())
        return sum(t.numel() for t in (self.dense or {}).values())

    def save(self, file: Path) -> None:
        """Write it whole: a delta as a delta file, parameters as safetensors; `load` gives it back."""
        facts = {k: v for k, v in asdict(replace(self, delta=None, dense=None)).items() if k not in ("delta", "dense")}
        if self.delta:
            delta_file.save(self.delta, file)
            write_whole(file.with_suffix(".json"), json.dumps(facts).encode())
            return
        write_whole(file, to_bytes(self.dense or {}, {KIND: json.dumps(facts)}))

    @classmethod
    def load(cls, file: Path) -> Learned:
        """Read what `save` has written."""
        with safe_open(file, "pt") as f:
            texts = f.metadata() or {}
            if KIND in texts:
                return cls(dense={k: f.get_tensor(k) for k in f.keys()}, **facts_of(texts[KIND]))
        return cls(delta=delta_file.load(file), **facts_of(file.with_suffix(".json").read_text(encoding="utf-8")))


def facts_of(text: str) -> dict:
    """Fields of `Learned` from JSON, lists as tuples again."""
    facts = json.loads(text)
    facts["replayed"], facts["prompts"] = tuple(facts["replayed"]), tuple(map(tuple, facts["prompts"]))
    return facts


@contextmanager
def added(module: nn.Module, changes: Mapping[str, Tensor]) -> Iterator[None]:
    """Parameters with something added, for the length of a block; their own bits and storage afterwards."""
    parameters = dict(module.named_parameters())
    before = {name: parameters[name].detach().clone() for name in changes}
    try:
        with torch.no_grad():
            for name, change in changes.items():
                parameters[name].add_(change.to(parameters[name]))
        yield
    finally:
        with torch.no_grad():
            for name, values in before.items():
                parameters[name].copy_(values)


@contextmanager
def under(host: OpenModel, learned: Sequence[Learned]) -> Iterator[nn.Module]:
    """The model after some requests, ready to draw with or to train on; the base again at the end of the block."""
    sums: dict[str, Tensor] = {}
    for one in learned:
        for name, change in (one.dense or {}).items():
            sums[name] = sums[name] + change if name in sums else change
    with host.session(stack_of(learned)) as backbone, added(backbone, sums):
        yield backbone


def stack_of(learned: Sequence[Learned]) -> Stack:
    """The deltas among the outcomes, in order."""
    stack = Stack()
    for one in learned:
        if one.delta:
            stack = stack.with_delta(one.delta)
    return stack


def distance_moved(host: OpenModel, learned: Sequence[Learned]) -> float:
    """|| sum of all changes ||_F over the UNet's parameters, however they were made."""
    before = {n: p.detach().clone() for n, p in host.backbone.named_parameters()}
    with under(host, learned) as backbone:
        return sum(float((p - before[n]).double().square().sum()) for n, p in backbone.named_parameters()) ** 0.5
