"""Does a picture show a concept that its prompt does not name? The diffusion classifier asks the model itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..host import Conditioning, HostModel
from ..sampling import Probe, expand

READ_PLACES = 1 / 16
"""Part of a picture's places that are compared: those where adding the concept's words moves the answer most."""
NEAR_PLACES = 1 / 8
"""Part of them that counts as where it is, or would be."""
NOISES = 6
"""Noises with which a picture is read at each level: with one of them many marks are missed."""
SHARED = 2
"""How much the mean over all pictures counts beside a picture's own in where it would be: most marks have a place."""


@dataclass(frozen=True)
class Sight:
    """What was seen of a concept in some pictures.

    margins: log(error without its words / error with them) at the places where they matter, `[b]`: above 0 it is there.
    places: where it is or would be, 1 or 0, `[b, 1, h, w]`.
    """

    margins: Tensor
    places: Tensor

    def __len__(self) -> int:
        return len(self.margins)


@torch.no_grad()
def look_for(
    host: HostModel,
    latents: Tensor,
    prompts: tuple[Conditioning, Conditioning],
    levels: Sequence[float],
    seed: int,
    tick: Callable[[], None] = lambda: None,
) -> Sight:
    """Compare a picture's errors under its own prompt and under the same prompt with the concept added.

    Over the whole picture the words' other effects hide a small mark. So only those places count where both answers
    differ most, in this picture and in all of them: there `sum || d(x; p) - t ||^2 / sum || d(x; p + c) - t ||^2`, t
    being where the noised picture came from. latents: `[b, c, h, w]`. prompts: their own, and with the concept, a row
    a picture. levels: parts of the noise range.
    """
    at = torch.tensor([int(part * (len(host.sigmas) - 1)) for part in levels])
    sigmas = host.sigmas[at.to(host.sigmas.device)]
    plain, named, apart = (torch.zeros(len(latents), latents[0, 0].numel(), device=latents.device) for _ in range(3))
    for number in range(NOISES):
        probe = Probe.make(host, latents, sigmas, seed + number)
        truth = (probe.x - latents.repeat_interleave(probe.levels, 0)) / expand(probe.sigma, probe.x)
        own, other = (probe.directions(host, p) for p in prompts)
        tick()
        for sums, change in ((plain, own - truth), (named, other - truth), (apart, own - other)):
            sums += change.square().view(len(latents), probe.levels, *latents.shape[1:]).sum((1, 2)).flatten(1)
    parts = apart / apart.sum(1, keepdim=True).clamp(min=1e-12)
    likely = parts + SHARED * parts.mean(0)
    read, near = (likely.topk(max(1, round(part * apart.shape[1])), 1).indices for part in (READ_PLACES, NEAR_PLACES))
    margins = (plain.gather(1, read).sum(1) / named.gather(1, read).sum(1)).log()
    places = torch.zeros_like(apart).scatter(1, near, 1.0).view(len(latents), 1, *latents.shape[2:])
    return Sight(margins.cpu(), places)
