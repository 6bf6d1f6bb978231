"""Quick runs on the tiny host, and what of a host a run must give back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from tests.small import info
from tests.tiny import WIDTH, TinyHost
from unlearn_core import Delta, ForgetConfig, Result, Stack, forget
from unlearn_core.delta.format import Factor
from unlearn_core.host import Conditioning
from unlearn_core.method.request import Request
from unlearn_core.method.run import Run
from unlearn_core.recipe import DEFAULT, SMALL, Recipe

TRAINED = {"concept": "banana", "anchor": "pear", "steps": 6, "sampling_steps": 2, "batch": 2, "closed_form": False}


def config(**changes: Any) -> ForgetConfig:
    """A request that trains for a few steps; other settings in place of some."""
    return ForgetConfig(**(TRAINED | changes))


def run(host: Any, wish: ForgetConfig, *arguments: Any, **named: Any) -> Result:
    """`forget` with the small recipes."""
    return forget(host, wish, *arguments, **{"recipes": SMALL, **named})


def state_of(host: Any) -> dict[str, Any]:
    """All that is to be the same after a run: modules, hooks, attributes, flags and every bit of the weights."""
    modules = list(host.backbone.named_modules())
    return {
        "modules": {name: id(m) for name, m in modules},
        "hooks": {name: (len(m._forward_hooks), len(m._forward_pre_hooks)) for name, m in modules},
        "attributes": {name: sorted(vars(m)) for name, m in modules},
        "training": {name: m.training for name, m in modules},
        "flags": {name: p.requires_grad for name, p in host.backbone.named_parameters()},
        "gradients": [name for name, p in host.backbone.named_parameters() if p.grad is not None],
        "weights": {name: t.clone() for name, t in host.backbone.state_dict().items()},
    }


def assert_same(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Two states are equal to the bit."""
    weights, others = before["weights"], after["weights"]
    assert {k: v for k, v in before.items() if k != "weights"} == {k: v for k, v in after.items() if k != "weights"}
    assert weights.keys() == others.keys() and all(torch.equal(weights[k], others[k]) for k in weights)


LAYER = "diffusion_model.blocks.0.attn2.to_k"


def stack_on(host: Any, *facts: Mapping[str, Any], size: float = 0.1) -> Stack:
    """Deltas of one layer of the tiny host. facts: what each one's `DeltaInfo` says, its concept at least."""
    stack, generator = Stack(), torch.Generator().manual_seed(0)
    for told in facts:
        down, up = (torch.randn(s, generator=generator) * size for s in ((2, WIDTH), (WIDTH, 2)))
        of_host = {"architecture": host.architecture, "base_fingerprint": host.fingerprint}
        stack = stack.with_delta(Delta({LAYER: Factor(down, up, 2.0)}, info(**{**of_host, **told})))
    return stack


@contextmanager
def opened(
    host: Any, wish: ForgetConfig, stack: Stack | None = None, recipes: Mapping[str, Recipe] = DEFAULT
) -> Iterator[Run]:
    """A run that has only been opened."""
    with Run.open(Request.read(host, wish, stack or Stack(), recipes=recipes), host, None) as run:
        yield run


class Pictures(TinyHost):
    """Draws for each prompt one fixed picture: the mean of the colours of the words that it names."""

    def __init__(self, colours: Mapping[str, float], default: float = 0.0):
        super().__init__()
        self.colours, self.default = dict(colours), default

    def encode(self, prompts: Any) -> Conditioning:
        seen = [[c for w, c in self.colours.items() if w in p.replace(",", " ").split()] for p in prompts]
        return Conditioning(torch.tensor([sum(s) / len(s) if s else self.default for s in seen]).view(-1, 1, 1))

    def denoise(self, x: torch.Tensor, sigma: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        return conditioning.tokens.mean((1, 2)).view(-1, 1, 1, 1).expand_as(x)
