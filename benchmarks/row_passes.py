"""How much work a run is, whatever the machine: rows that went through the denoiser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass
class Rows:
    """A count that goes on."""

    count: int = 0


@contextmanager
def rows_counted(backbone: nn.Module) -> Iterator[Rows]:
    """The rows of all passes of a denoiser that were finished, for the length of a block.

    A pass that ends at one of its first layers, where a prompt is read, is none.
    """
    rows = Rows()

    def count(_: nn.Module, given: tuple, named: dict[str, Any], __: Any) -> None:
        first = next(t for t in (*given, *named.values()) if isinstance(t, Tensor))
        rows.count += len(first)

    hook = backbone.register_forward_hook(count, with_kwargs=True)
    try:
        yield rows
    finally:
        hook.remove()
