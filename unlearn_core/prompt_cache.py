"""Encoded prompts, remembered: a run comes back to some dozens of prompts again and again, and to hundreds once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from .host import Conditioning

AT_ONCE, ON_A_CPU = 32, 8
"""Prompts that a text encoder reads at once; on a CPU more save no time, and their tensors leave holes in the heap."""
MOST = 256
"""Prompts that are kept, those asked for last."""
LIST = 48
"""Who asks for more new prompts than this at once goes through a list: none of them is kept.

All prompts of a request would take 50 MB for the smallest text encoder, and 800 for SDXL's.
"""


class PromptCache:
    """What a text encoder has answered, on the CPU."""

    def __init__(self) -> None:
        self._kept: dict[str, Conditioning] = {}

    def encode(
        self, prompts: Sequence[str], read: Callable[[Sequence[str]], Conditioning], device: torch.device
    ) -> Conditioning:
        """The prompts' rows on the device. read: encodes up to `AT_ONCE` prompts, on whatever device."""
        missing = [p for p in dict.fromkeys(prompts) if p not in self._kept]
        new: dict[str, Conditioning] = {}
        size = ON_A_CPU if device.type == "cpu" else AT_ONCE
        for i in range(0, len(missing), size):
            part = missing[i : i + size]
            rows = read(part).to(torch.device("cpu"))
            new |= {p: rows[[j]] for j, p in enumerate(part)}
        found = {p: self._kept[p] if p in self._kept else new[p] for p in dict.fromkeys(prompts)}
        latest = found if len(missing) <= LIST else {p: c for p, c in found.items() if p not in new}
        rest = {p: c for p, c in self._kept.items() if p not in latest}
        self._kept = dict([*rest.items(), *latest.items()][-MOST:])
        return Conditioning.cat([found[p] for p in prompts]).to(device)
