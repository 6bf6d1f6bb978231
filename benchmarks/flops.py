"""Floating-point operations of a piece of work: matrix products, convolutions and attention, as torch counts them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils import flop_counter


def counted(run: Callable[[], object]) -> int:
    """Operations that `run` made, its backward passes included; a product of m x k and k x n counts 2 m k n."""
    with flop_counter.FlopCounterMode(display=False, custom_mapping=on_cpu()) as counter:
        run()
    return counter.get_total_flops()


def on_cpu() -> dict:
    """Attention's own operator on CPUs, which torch's table leaves out."""
    forward = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)
    backward = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu_backward", None)
    pairs = ((forward, attention), (backward, attention_backward))
    return {operator: formula for operator, formula in pairs if operator is not None}


def attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """Operations by the shapes of the operator's arguments."""
    return flop_counter.sdpa_flop_count(query, key, value)


def attention_backward(gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """The same of the way back."""
    return flop_counter.sdpa_backward_flop_count(gradient, query, key, value)
