"""The ends of a tensor's numbers, in every version of torch: both are NaN where it holds NaN."""

from __future__ import annotations

import torch
from torch import Tensor


def ends_of(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """The smallest and the largest number; torch 2.1 finds them in half precision on cards only."""
    halves = tensor.dtype in (torch.float16, torch.bfloat16) and tensor.device.type == "cpu"
    low, high = (tensor.float() if halves else tensor).aminmax()
    return low, high
