"""Samplers that nothing was trained with, for the question whether a concept stays forgotten under them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unlearn_core.host import Conditioning, HostModel
from unlearn_core.sampling import Sampler, direction, noise


@dataclass(frozen=True)
class Guided:
    """A host under prompts with guidance. named: one row a picture. unnamed: one row."""

    host: HostModel
    named: Conditioning
    unnamed: Conditioning
    guidance: float

    def denoised(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The clean latent by D_empty + g (D_c - D_empty). x `[b, c, h, w]`, sigma one number."""
        both = Conditioning.cat([self.named, self.unnamed[[0] * len(self.named)]])
        d, e = direction(self.host, torch.cat([x, x]), sigma.expand(2 * len(x)), both).chunk(2)
        return x - sigma * (e + self.guidance * (d - e))

    def noised(self, x: Tensor, sigmas: Tensor) -> Tensor:
        """Noise x at the highest level."""
        return self.host.noised(torch.zeros_like(x), sigmas[:1].expand(len(x)), x)


def plain_euler(guided: Guided, x: Tensor, sigmas: Tensor, seed: int) -> Tensor:
    """The sampler of training and counting."""
    sampler = Sampler(guided.host, len(sigmas) - 1, guided.guidance, negative=guided.unnamed)
    return sampler.along(guided.named, x, sigmas)


def dpm_2m(guided: Guided, x: Tensor, sigmas: Tensor, seed: int) -> Tensor:
    """DPM-Solver++(2M), Lu et al. 2022, algorithm 2, with lambda = -log sigma and variance exploding scale."""
    x = guided.noised(x, sigmas)
    before, last = None, None
    for now, after in zip(sigmas[:-1], sigmas[1:], strict=True):
        clean = guided.denoised(x, now)
        if after == 0:
            return clean
        step = (now / after).log()
        mixed = clean
        if before is not None:
            ratio = (last / now).log() / step
            mixed = (1 + 1 / (2 * ratio)) * clean - before / (2 * ratio)
        x = after / now * x - torch.expm1(-step) * mixed
        before, last = clean, now
    return x


def euler_ancestral(guided: Guided, x: Tensor, sigmas: Tensor, seed: int) -> Tensor:
    """Euler's method with new noise at each step, k-diffusion's `sample_euler_ancestral` with eta 1."""
    x = guided.noised(x, sigmas)
    for i, (now, after) in enumerate(zip(sigmas[:-1], sigmas[1:], strict=True)):
        up = (after**2 * (now**2 - after**2) / now**2).sqrt().clamp(max=after)
        down = (after**2 - up**2).sqrt()
        x = x + (down - now) * (x - guided.denoised(x, now)) / now
        x = x + up * noise(x.shape, seed * 1000 + i + 1, x.device)
    return x
