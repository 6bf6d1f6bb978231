"""Gradient checkpointing on any host's module: each block's inner activations are computed again when needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint


@contextmanager
def checkpointed(backbone: nn.Module, on: bool) -> Iterator[None]:
    """Checkpoint the members of the backbone's own module lists (down, up, double ... blocks); undone at the end."""
    blocks = [m for child in backbone.children() if isinstance(child, nn.ModuleList) for m in child] if on else []
    found = [(block, vars(block).get("forward")) for block in blocks]
    try:
        for block in blocks:
            # the re-entrant kind gives no gradient to adapters when the block's input needs none
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)
        yield
    finally:
        for block, own in found:
            if own is None:
                vars(block).pop("forward", None)
            else:
                block.forward = own
