"""Sampling in noise-level space: schedules, Euler on dx/dsigma = d, and banks of a model's own latents."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .errors import TrainingFailed, not_finite
from .host import Conditioning, HostModel
from .saved_work import saved_tensor


def expand(sigma: Tensor, like: Tensor) -> Tensor:
    """Noise levels `[b]` shaped to multiply with latents `[b, ...]`."""
    return sigma.view(-1, *[1] * (like.dim() - 1))


def direction(host: HostModel, x: Tensor, sigma: Tensor, conditioning: Conditioning) -> Tensor:
    """d(x; sigma, c) = (x - D(x; sigma, c)) / sigma (Karras et al. 2022, eq. 4): epsilon, or a flow's velocity."""
    return (x - host.denoise(x, sigma, conditioning)) / expand(sigma, x)


def schedule(host: HostModel, steps: int) -> Tensor:
    """`steps + 1` noise levels from the highest trained one down to 0, evenly spaced in the trained levels."""
    levels = host.sigmas
    at = torch.linspace(len(levels) - 1, 0, steps + 1)[:-1].round().long()
    return torch.cat([levels[at.to(levels.device)], levels.new_zeros(1)])


def noise(shape: Sequence[int], seed: int, device: torch.device) -> Tensor:
    """Normal noise drawn on the CPU, so that one seed is one noise on every device."""
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed)).to(device)


@dataclass(frozen=True)
class Drawing:
    """Latents `[b, c, h, w]` with the noise `start` that they were drawn from."""

    start: Tensor
    latents: Tensor

    def __getitem__(self, rows: Tensor) -> Drawing:
        return Drawing(self.start[rows], self.latents[rows])


@dataclass(frozen=True)
class Sampler:
    """How pictures are drawn: Euler's method, which for epsilon models is DDIM with eta 0.

    guidance: classifier-free guidance weight g, d = d_empty + g (d_c - d_empty); 1 needs no second pass.
    tick: called after each step. negative: one encoded prompt in place of the empty one. batch: rows of a pass.
    """

    host: HostModel
    steps: int = 20
    guidance: float = 3.0
    tick: Callable[[], None] = lambda: None
    negative: Conditioning | None = None
    batch: int = 32

    def draw(self, conditioning: Conditioning, seed: int, first: int = 0) -> Tensor:
        """One latent per row of `conditioning`, `[b, c, h, w]`; row i has noise first + i of `seed` in any batch."""
        return self.from_noise(conditioning, self.starts(len(conditioning), seed, first))

    def ticks(self, count: int) -> int:
        """How often `tick` is called for so many pictures."""
        return -(-count // self.batch) * self.steps

    def starts(self, count: int, seed: int, first: int = 0) -> Tensor:
        """The noise that `draw` begins from, `[count, c, h, w]`."""
        return noise((first + count, *self.host.latent_shape), seed, self.host.device)[first:]

    def from_noise(self, conditioning: Conditioning, start: Tensor) -> Tensor:
        """One latent per row of `conditioning` and of the noise `start`, `[b, c, h, w]`."""
        sampler, sigmas = self.ready(), schedule(self.host, self.steps)
        made_of = (start, sigmas, *conditioning.parts(), *sampler.unnamed(), self.guidance)
        return saved_tensor(self.host, "draw", made_of, lambda: sampler.all_along(conditioning, start, sigmas))

    def ready(self) -> Sampler:
        """The same with its negative prompt encoded, so that a run that goes on encodes the same prompts together."""
        return replace(self, negative=None if self.guidance == 1.0 else self.negative or self.host.encode([""]))

    def unnamed(self) -> tuple[Tensor, ...]:
        """The tensors of the negative prompt; none without guidance."""
        return self.negative.parts() if self.negative else ()

    def all_along(self, conditioning: Conditioning, start: Tensor, sigmas: Tensor) -> Tensor:
        """`along` for any number of rows."""
        rows = [slice(i, i + self.batch) for i in range(0, len(conditioning), self.batch)]
        return torch.cat([self.along(conditioning[r], start[r], sigmas) for r in rows])

    def drawn_again(self, conditioning: Conditioning, drawn: Drawing, places: Tensor, seed: int) -> Tensor:
        """The same pictures with what is at some places drawn once more, from other noise, `[b, c, h, w]`.

        After each step all other places are put back where the picture passed (RePaint, Lugmayr et al. 2022, arXiv
        2201.09865). places: 1 or 0, `[b, 1, h, w]`.
        """
        sampler, sigmas = self.ready(), schedule(self.host, self.steps)
        start = torch.lerp(drawn.start, noise(drawn.start.shape, seed, drawn.start.device), places)
        made = []
        for i in range(0, len(start), self.batch):
            rows = slice(i, i + self.batch)

            def put_back(x: Tensor, sigma: Tensor, rows: slice = rows) -> Tensor:
                passed = self.host.noised(drawn.latents[rows], sigma.expand(len(x)), drawn.start[rows])
                return torch.lerp(passed, x, places[rows])

            made.append(sampler.along(conditioning[rows], start[rows], sigmas, put_back))
        return torch.cat(made)

    @torch.no_grad()
    def along(
        self,
        conditioning: Conditioning,
        start: Tensor,
        sigmas: Tensor,
        after_step: Callable[[Tensor, Tensor], Tensor] = lambda x, sigma: x,
    ) -> Tensor:
        """From noise `start` `[b, c, h, w]` along noise levels `sigmas` `[steps + 1]`, falling.

        after_step: (latents, the noise level that they have now) -> the latents with which the next step begins.
        """
        host, b = self.host, len(start)
        x = host.noised(torch.zeros_like(start), sigmas[:1].expand(b), start)
        both = None
        if self.guidance != 1.0:
            negative = self.negative or host.encode([""])
            both = Conditioning.cat([conditioning, negative[[0] * b]])
        for now, after in zip(sigmas[:-1], sigmas[1:], strict=True):
            if both is None:
                d = direction(host, x, now.expand(b), conditioning)
            else:
                named, unnamed = direction(host, torch.cat([x, x]), now.expand(2 * b), both).chunk(2)
                d = unnamed + self.guidance * (named - unnamed)
            x = after_step(x + (after - now) * d, after)
            self.tick()
        return x


@dataclass(frozen=True)
class LatentBank:
    """A model's own clean latents for a list of prompts, drawn once and noised anew at every step.

    latents: `[prompts, per_prompt, c, h, w]`; conditioning: one row a prompt.
    """

    latents: Tensor
    conditioning: Conditioning

    @classmethod
    def draw(
        cls,
        host: HostModel,
        conditioning: Conditioning,
        per_prompt: int,
        seed: int,
        steps: int,
        tick: Callable[[], None] = lambda: None,
    ) -> LatentBank:
        """Sample at guidance 1, as the model's own distribution is what has to be matched.

        Raises `TrainingFailed` when the model draws numbers that are not finite.
        """
        rows = [i for i in range(len(conditioning)) for _ in range(per_prompt)]
        latents = Sampler(host, steps, 1.0, tick).draw(conditioning[rows], seed)
        if not torch.isfinite(latents).all():
            raise TrainingFailed(not_finite("draws"))
        return cls(latents.view(len(conditioning), per_prompt, *host.latent_shape), conditioning)

    def __len__(self) -> int:
        return len(self.latents)

    def __add__(self, other: LatentBank) -> LatentBank:
        return LatentBank(
            torch.cat([self.latents, other.latents]), Conditioning.cat([self.conditioning, other.conditioning])
        )

    def pick(self, prompts: Tensor, generator: torch.Generator) -> Tensor:
        """A random latent for each of the prompt numbers `[b]`, `[b, c, h, w]`."""
        which = torch.randint(0, self.latents.shape[1], prompts.shape, generator=generator)
        return self.latents[prompts.to(self.latents.device), which.to(self.latents.device)]


def discrete_denoised(
    predict: Callable[[Tensor, Tensor], Tensor], x: Tensor, sigma: Tensor, log_sigmas: Tensor, prediction_type: str
) -> Tensor:
    """The clean latent `[b, c, h, w]` from an epsilon or v network trained at discrete times.

    Scale in by 1/sqrt(1+sigma^2), nearest trained t, and back (Karras et al. 2022, preconditioning of VP models).
    predict: (latents of variance 1, times `[b]`) -> the network's answer. x: at noise level sigma `[b]`.
    """
    sigma = sigma.view(-1)
    t = (sigma.log()[:, None] - log_sigmas).abs().argmin(1)
    sigma = sigma.view(-1, 1, 1, 1)
    scale = (1 + sigma**2).rsqrt()
    out = predict(x * scale, t)
    if prediction_type == "v_prediction":
        return x * scale**2 - out * sigma * scale
    return x - sigma * out


@dataclass(frozen=True)
class Probe:
    """Some of a model's latents at several noise levels, the same noise for every prompt that is compared.

    x: `[latents * levels, c, h, w]`; sigma: `[latents * levels]`; noise as x; levels: their number.
    """

    x: Tensor
    sigma: Tensor
    noise: Tensor
    levels: int

    @classmethod
    def make(cls, host: HostModel, latents: Tensor, levels: Tensor, seed: int) -> Probe:
        """latents `[m, c, h, w]`, levels `[n]` -> every latent at every level, level fastest."""
        n = len(levels)
        z = latents.repeat_interleave(n, 0)
        sigma = levels.repeat(len(latents))
        draws = noise(z.shape, seed, z.device)
        return cls(host.noised(z, sigma, draws), sigma, draws, n)

    @torch.no_grad()
    def directions(self, host: HostModel, conditioning: Conditioning, batch: int = 64) -> Tensor:
        """d at every probe point; row i of `conditioning` is the prompt of latent i. `[latents * levels, c, h, w]`."""
        rows = [i for i in range(len(conditioning)) for _ in range(self.levels)]
        cond = conditioning[rows]
        parts = [slice(i, i + batch) for i in range(0, len(rows), batch)]
        return torch.cat([direction(host, self.x[p], self.sigma[p], cond[p]) for p in parts])

    def compared(self, host: HostModel, prompts: Sequence[Conditioning], batch: int = 32) -> Iterator[Tensor]:
        """`directions` under each of several prompts: as many of them go together as are at most `batch` rows."""
        at_once = max(1, batch // len(self.x))
        for first in range(0, len(prompts), at_once):
            part = prompts[first : first + at_once]
            points = Probe(torch.cat([self.x] * len(part)), self.sigma.repeat(len(part)), self.noise, self.levels)
            yield from points.directions(host, Conditioning.cat(part)).chunk(len(part))


def probe_levels(host: HostModel, count: int) -> Tensor:
    """`count` noise levels in the middles of equal parts of the trained range, ascending, `[count]`."""
    n = len(host.sigmas)
    at = ((torch.arange(count) + 0.5) * n / count).long()
    return host.sigmas[at.to(host.sigmas.device)]
