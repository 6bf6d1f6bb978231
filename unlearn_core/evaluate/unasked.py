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
SHARED = 10
"""How much the mean over all pictures counts beside a picture's own in where it would be: most marks have a place."""


Prompts = tuple[Conditioning, Conditioning]
"""Of some pictures: their own, and the same with the concept."""


@dataclass(frozen=True)
class Sight:
    """What was seen of a concept in some pictures.

    margins: log(error without its words / error with them) at the places where they matter, `[b]`: above 0 it is there.
    read: numbers of these places, `[b, k]`. places: where it is or would be, 1 or 0, `[b, 1, h, w]`.
    """

    margins: Tensor
    read: Tensor
    places: Tensor

    def __len__(self) -> int:
        return len(self.margins)

    def __getitem__(self, rows: Tensor) -> Sight:
        return Sight(self.margins[rows], self.read[rows], self.places[rows])


@dataclass(frozen=True)
class UnaskedReader:
    """Compares a picture's errors under its own prompt and under the same prompt with the concept added.

    Over the whole picture the words' other effects hide a small mark. So only those places count where both answers
    differ most, in this picture and in all of them: there `sum || d(x; p) - t ||^2 / sum || d(x; p + c) - t ||^2`, t
    being where the noised picture came from. levels: parts of the noise range. tick: called after each noise.
    """

    host: HostModel
    levels: Sequence[float]
    tick: Callable[[], None] = lambda: None

    def look_for(self, latents: Tensor, prompts: Prompts, seed: int) -> Sight:
        """Of latents `[b, c, h, w]`, a row of the prompts a picture."""
        plain, named, apart = self.errors(latents, prompts, seed)
        parts = apart / apart.sum(1, keepdim=True).clamp(min=1e-12)
        likely = parts + SHARED * parts.mean(0)
        read, near = (likely.topk(max(1, round(p * apart.shape[1])), 1).indices for p in (READ_PLACES, NEAR_PLACES))
        places = torch.zeros_like(apart).scatter(1, near, 1.0).view(len(latents), 1, *latents.shape[2:])
        return Sight(margins_at(read, plain, named), read, places)

    def read_again(self, latents: Tensor, prompts: Prompts, seed: int, sight: Sight) -> Tensor:
        """The margins of pictures that were drawn anew, `[b]`, at the places at which the old ones were read."""
        plain, named, _ = self.errors(latents, prompts, seed)
        return margins_at(sight.read, plain, named)

    @torch.no_grad()
    def errors(self, latents: Tensor, prompts: Prompts, seed: int) -> list[Tensor]:
        """Sums over noises and levels at each place, `[b, places]`.

        Of squared errors without and with the concept's words, and of how far the two answers are apart.
        """
        host = self.host
        at = torch.tensor([int(part * (len(host.sigmas) - 1)) for part in self.levels])
        sigmas = host.sigmas[at.to(host.sigmas.device)]
        sums = [torch.zeros(len(latents), latents[0, 0].numel(), device=latents.device) for _ in range(3)]
        for number in range(NOISES):
            probe = Probe.make(host, latents, sigmas, seed + number)
            truth = (probe.x - latents.repeat_interleave(probe.levels, 0)) / expand(probe.sigma, probe.x)
            own, other = (probe.directions(host, p) for p in prompts)
            self.tick()
            for total, change in zip(sums, (own - truth, other - truth, own - other), strict=True):
                total += change.square().view(len(latents), probe.levels, *latents.shape[1:]).sum((1, 2)).flatten(1)
        return sums


def margins_at(read: Tensor, plain: Tensor, named: Tensor) -> Tensor:
    """See `Sight`, on the CPU."""
    return (plain.gather(1, read).sum(1) / named.gather(1, read).sum(1)).log().cpu()
