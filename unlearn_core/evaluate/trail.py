"""What a change does along short paths of sampling: cheap, since no picture is finished or read."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..host import Conditioning, HostModel
from ..sampling import direction, noise, schedule


@dataclass(frozen=True)
class Trail:
    """Points that the sampling of some prompts passes through, and where the model goes from each.

    x, directions: `[steps * prompts, c, h, w]`, all prompts' first points first. sigma: `[steps * prompts]`.
    """

    x: Tensor
    sigma: Tensor
    directions: Tensor
    prompts: int

    @classmethod
    @torch.no_grad()
    def draw(cls, host: HostModel, conditioning: Conditioning, steps: int, seed: int, side: int = 0) -> Trail:
        """By the model as it is, a row of `conditioning` a prompt, without guidance.

        side: the largest height and width of its latents, where they need not be the model's own; 0: these.
        """
        channels, *sides = host.latent_shape
        sides = [min(s, side or s) for s in sides]
        return cls.along(host, conditioning, noise((len(conditioning), channels, *sides), seed, host.device), steps)

    @classmethod
    @torch.no_grad()
    def along(
        cls, host: HostModel, conditioning: Conditioning, start: Tensor, steps: int, points: int | None = None
    ) -> Trail:
        """From noise `start` `[prompts, c, h, w]`. points: the first so many alone."""
        count, sigmas = len(conditioning), schedule(host, steps)[: None if points is None else points + 1]
        x, passed = host.noised(torch.zeros_like(start), sigmas[:1].expand(count), start), []
        for now, after in zip(sigmas[:-1], sigmas[1:], strict=True):
            d = direction(host, x, now.expand(count), conditioning)
            passed.append((x, d))
            x = x + (after - now) * d
        xs, directions = (torch.cat(parts) for parts in zip(*passed, strict=True))
        return cls(xs, sigmas[:-1].repeat_interleave(count), directions, count)

    @torch.no_grad()
    def asked(self, host: HostModel, conditioning: Conditioning) -> Tensor:
        """Where the model as it is now goes from the same points, under prompts in place of the trail's own."""
        rows = [i % self.prompts for i in range(len(self.x))]
        return direction(host, self.x, self.sigma, conditioning[rows])

    def apart(self, one: Tensor, other: Tensor) -> Tensor:
        """Mean squared distance of two sets of directions at the points of each prompt, `[prompts]`."""
        return (one - other).pow(2).flatten(1).mean(1).view(-1, self.prompts).mean(0)
