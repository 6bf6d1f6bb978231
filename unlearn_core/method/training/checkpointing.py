"""Gradient checkpointing of any denoiser: a block's inner activations are computed again when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint


def blocks(module: nn.Module) -> list[nn.Module]:
    """The innermost members of lists that are made of several parts: residual and transformer blocks, in any layout."""
    found = []
    for child in module.children():
        inner = blocks(child)
        if inner:
            found += inner
        elif isinstance(module, (nn.ModuleList, nn.Sequential)) and len(list(child.children())) > 1:
            found.append(child)
    return found


@contextmanager
def checkpointed(backbone: nn.Module, on: Callable[[], bool]) -> Iterator[None]:
    """Compute each block's inner activations again when they are needed, while `on()` says so; undone at the end."""
    found = [(block, vars(block).get("forward")) for block in blocks(backbone)]
    try:
        for block, _ in found:
            block.forward = partial(forward_again, block.forward, on)
        yield
    finally:
        for block, own in found:
            if own is None:
                vars(block).pop("forward", None)
            else:
                block.forward = own


def forward_again(forward: Callable, on: Callable[[], bool], *args: Any, **kwargs: Any) -> Any:
    """A block's forward, checkpointed or not."""
    if not on():
        return forward(*args, **kwargs)
    # the re-entrant kind gives no gradient to adapters when the block's input needs none
    return checkpoint(forward, *args, use_reentrant=False, **kwargs)
