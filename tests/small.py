"""A network of width 8 and deltas for it, for the tests of stacks and merges."""

import torch
from torch import nn

from unlearn_core.delta.apply import applied
from unlearn_core.delta.format import Delta, DeltaInfo, Factor
from unlearn_core.delta.stack import Entry, Stack

BASE = "0123456789abcdef"
LAYERS = {"lora_unet_first": "first", "lora_unet_inner_conv": "inner.conv", "lora_unet_last": "last"}


class Small(nn.Module):
    """Two linear layers around a 1x1 convolution, all 8 wide, and a second name for the last one's weight."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.inner = nn.ModuleDict({"conv": nn.Conv2d(8, 8, 1)})
        self.last = nn.Linear(8, 8)
        self.tied = nn.Linear(8, 8)
        self.tied.weight = self.last.weight

    def forward(self, x):
        return self.last(torch.tanh(self.inner["conv"](torch.tanh(self.first(x))[..., None, None])[..., 0, 0]))


def a_net() -> Small:
    """The same network every time."""
    torch.manual_seed(0)
    return Small()


X = torch.linspace(-1, 1, 40).view(5, 8)


def info(concept="banana", **changes):
    values = {"kind": "object", "anchor": "", "architecture": "sd1", "prediction_type": "epsilon"}
    return DeltaInfo(**{"concept": concept, "base_fingerprint": BASE, **values, **changes})


def a_delta(concept="banana", seed=0, rank=2, alpha=1.0, names=tuple(LAYERS), **changes):
    g = torch.Generator().manual_seed(seed)
    factors = {n: Factor(torch.randn(rank, 8, generator=g), torch.randn(8, rank, generator=g), alpha) for n in names}
    prompts = ((f"a {concept}", "a thing"), ("both", "nothing"))
    return Delta(factors, info(concept, **{"prompts": prompts, **changes}))


A, B, C = a_delta("banana", 1), a_delta("frog", 2, rank=3, alpha=2.0), a_delta("cat", 3)


def stack_of(*pairs):
    return Stack(tuple(Entry(delta, strength) for delta, strength in pairs))


@torch.no_grad()
def weights_under(net, stack, layers=LAYERS):
    with applied(net, layers, stack):
        return {name: p.clone() for name, p in net.state_dict().items()}


@torch.no_grad()
def output_under(net, stack):
    with applied(net, LAYERS, stack):
        return net(X)
