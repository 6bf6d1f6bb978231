"""Samplers other than the one that forgetting was trained and judged with, over the same denoiser contract."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..interfaces import Conditioning, HostModel
from ..sampling import direction, euler, noise, schedule


def guided(
    host: HostModel, x: Tensor, sigma: Tensor, asked: Conditioning, other: Conditioning, guidance: float
) -> Tensor:
    """d under classifier-free guidance; `other` is the empty or the negative prompt, one row a picture."""
    both = Conditioning.cat([asked, other])
    named, unnamed = direction(host, torch.cat([x, x]), sigma.expand(2 * len(x)), both).chunk(2)
    return unnamed + guidance * (named - unnamed)


@torch.no_grad()
def euler_ancestral(host, asked, other, start, sigmas, guidance, seed) -> Tensor:
    """Euler ancestral, eta 1 (k-diffusion): step down to sigma_down, add noise of sigma_up."""
    x = host.noised(torch.zeros_like(start), sigmas[:1].expand(len(start)), start)
    for i, (now, after) in enumerate(zip(sigmas[:-1], sigmas[1:], strict=True)):
        d = guided(host, x, now, asked, other, guidance)
        up = (after**2 * (now**2 - after**2) / now**2).clamp(min=0).sqrt()
        down = (after**2 - up**2).clamp(min=0).sqrt()
        x = x + (down - now) * d
        if after > 0:
            x = x + up * noise(x.shape, seed + 7919 * (i + 1), x.device)
    return x


@torch.no_grad()
def dpmpp_2m(host, asked, other, start, sigmas, guidance, seed) -> Tensor:
    """DPM-Solver++ (2M) in the data prediction form (Lu et al. 2022), for variance exploding noise."""
    x = host.noised(torch.zeros_like(start), sigmas[:1].expand(len(start)), start)
    old, before = None, None
    for now, after in zip(sigmas[:-1], sigmas[1:], strict=True):
        clean = x - now * guided(host, x, now, asked, other, guidance)
        if after == 0:
            return clean
        h = (now / after).log()
        mixed = clean
        if old is not None:
            r = (before / now).log() / h
            mixed = (1 + 1 / (2 * r)) * clean - old / (2 * r)
        x = after / now * x - torch.expm1(-h) * mixed
        old, before = clean, now
    return x


@torch.no_grad()
def plain_euler(host, asked, other, start, sigmas, guidance, seed) -> Tensor:
    """The sampler of the rest of the tool."""
    return euler(host, asked, start, sigmas, guidance, other[[0]])


SAMPLERS: dict[str, Callable[..., Tensor]] = {
    "euler": plain_euler,
    "euler ancestral": euler_ancestral,
    "dpm++ 2m": dpmpp_2m,
}


def draw(
    host: HostModel,
    asked: Conditioning,
    other: Conditioning,
    seed: int,
    sampler: str = "euler",
    steps: int = 12,
    guidance: float = 3.0,
    batch: int = 32,
) -> Tensor:
    """Pictures `[n, 3, H, W]` in 0..1; other: the empty or the negative prompt, one row."""
    start, sigmas = noise((len(asked), *host.latent_shape), seed, host.device), schedule(host, steps)
    parts = [slice(i, i + batch) for i in range(0, len(asked), batch)]
    drawn = [
        SAMPLERS[sampler](host, asked[p], other[[0] * len(start[p])], start[p], sigmas, guidance, seed) for p in parts
    ]
    return host.decode(torch.cat(drawn))
