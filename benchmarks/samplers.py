"""Samplers that nothing was trained with, for the question whether a concept stays forgotten under them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from unlearn_core.host import Conditioning, HostModel
from unlearn_core.sampling import direction, euler, noise

Denoised = Callable[[Tensor, Tensor], Tensor]
"""(x `[b, c, h, w]`, sigma, one number) -> the guided clean latent."""


def guided(host: HostModel, named: Conditioning, unnamed: Conditioning, guidance: float) -> Denoised:
    """D_empty + g (D_c - D_empty). named: one row a picture. unnamed: one row."""
    both = Conditioning.cat([named, unnamed[[0] * len(named)]])

    def denoised(x: Tensor, sigma: Tensor) -> Tensor:
        d, e = direction(host, torch.cat([x, x]), sigma.expand(2 * len(x)), both).chunk(2)
        return x - sigma * (e + guidance * (d - e))

    return denoised


def plain_euler(
    host: HostModel, named: Conditioning, unnamed: Conditioning, x: Tensor, sigmas: Tensor, guidance: float, seed: int
) -> Tensor:
    """The sampler of training and counting."""
    return euler(host, named, x, sigmas, guidance, unnamed)


def dpm_2m(
    host: HostModel, named: Conditioning, unnamed: Conditioning, x: Tensor, sigmas: Tensor, guidance: float, seed: int
) -> Tensor:
    """DPM-Solver++(2M), Lu et al. 2022, algorithm 2, with lambda = -log sigma and variance exploding scale."""
    x = host.noised(torch.zeros_like(x), sigmas[:1].expand(len(x)), x)
    denoised, before, last = guided(host, named, unnamed, guidance), None, None
    for now, after in zip(sigmas[:-1], sigmas[1:], strict=True):
        clean = denoised(x, now)
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


def euler_ancestral(
    host: HostModel, named: Conditioning, unnamed: Conditioning, x: Tensor, sigmas: Tensor, guidance: float, seed: int
) -> Tensor:
    """Euler's method with new noise at each step, k-diffusion's `sample_euler_ancestral` with eta 1."""
    x = host.noised(torch.zeros_like(x), sigmas[:1].expand(len(x)), x)
    denoised = guided(host, named, unnamed, guidance)
    for i, (now, after) in enumerate(zip(sigmas[:-1], sigmas[1:], strict=True)):
        up = (after**2 * (now**2 - after**2) / now**2).sqrt().clamp(max=after)
        down = (after**2 - up**2).sqrt()
        x = x + (down - now) * (x - denoised(x, now)) / now
        x = x + up * noise(x.shape, seed * 1000 + i + 1, x.device)
    return x
