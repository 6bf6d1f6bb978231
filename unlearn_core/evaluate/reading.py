"""Pictures read by the diffusion classifier a level at a time, and only as far as it is not clear what they show.

Noise levels count alike: logs of their errors are averaged, so that none outweighs others by the scale of its errors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..errors import TrainingFailed, not_finite
from ..host import Conditioning, HostModel
from ..recipe import Recipe
from ..sampling import Probe, expand, noise
from ..saved_work import saved_tensor


class Readable(Protocol):
    """Numbered pictures, each with the same number of readings, of which the first is what it should show."""

    def errors(self, pictures: Sequence[int], readings: Sequence[int], level: int) -> Tensor:
        """Errors of some pictures under some readings at one noise level, `[pictures, readings]` on the CPU."""
        ...


@dataclass(frozen=True)
class HowToRead:
    """order: numbers of the noise levels, the one that tells most first. clear: see `margins`."""

    order: Sequence[int]
    clear: float

    @classmethod
    def by(cls, recipe: Recipe, verdict: bool = False) -> HowToRead:
        """High levels first, where it is settled what a picture shows. verdict: of what the request has changed."""
        levels = range(len(recipe.reading_levels))[::-1]
        return cls(levels, recipe.clear_verdict if verdict else recipe.clear_reading)


def margins(of: Readable, pictures: Sequence[int], readings: int, how: HowToRead) -> Tensor:
    """log(error of the best other reading / error of the first one) of each picture, `[pictures]`, a mean over levels.

    Above 0 it is read as the first. Levels are added, in their order, until the margin is at least `HowToRead.clear`
    away from 0; only with those other readings that are near enough to be the best. It is no number where an error
    is none.
    """
    found = torch.zeros(len(pictures))
    asked: list[Open] = [(tuple(range(readings)), list(range(len(pictures))), torch.zeros(len(pictures), readings))]
    for number, level in enumerate(how.order, 1):
        still: list[Open] = []
        for columns, rows, sums in asked:
            sums = sums + of.errors([pictures[i] for i in rows], columns, level).log()
            found[rows] = margin(sums / number)
            still += going_on((columns, rows, sums), sums / number, how.clear)
        asked = still
    return found


def margin(logs: Tensor) -> Tensor:
    """Logs of errors `[pictures, readings]` -> the least other one less the first, `[pictures]`."""
    return logs[:, 1:].amin(1) - logs[:, 0]


Open = tuple[tuple[int, ...], list[int], Tensor]
"""Readings that are still compared, pictures, and sums of the logs of their errors so far `[pictures, readings]`."""


def going_on(asked: Open, logs: Tensor, clear: float) -> list[Open]:
    """What is not clear yet: pictures by the readings that may still be the best. logs: means so far."""
    columns, rows, sums = asked
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, m in enumerate(margin(logs).tolist()):
        if not abs(m) >= clear:
            others = logs[i, 1:]
            near = [1 + j for j, e in enumerate(others.tolist()) if not e - float(others.min()) >= clear]
            groups.setdefault((0, *near), []).append(i)
    return [(tuple(columns[k] for k in keep), [rows[i] for i in g], sums[g][:, keep]) for keep, g in groups.items()]


@torch.no_grad()
def errors_at(
    host: HostModel,
    latents: Tensor,
    readings: Sequence[Conditioning],
    part: float,
    seeds: Sequence[int],
    tick: Callable[[], None] = lambda: None,
) -> Tensor:
    """E || D(z_s; s, c) - z_0 ||^2 / s^2 at one noise level, `[b, readings]` on the CPU (see `diffusion_classifier`).

    latents: `[b, c, h, w]`; part: of the trained noise range, 0..1; seeds: of each picture's noise, which is the same
    whatever it is read with. Raises `TrainingFailed` where the model gives no finite numbers for finite pictures.
    """
    sigma = host.sigmas[int(part * (len(host.sigmas) - 1))].reshape(1).expand(len(latents))
    draws = torch.cat([noise((1, *latents.shape[1:]), seed, latents.device) for seed in seeds])

    def errors() -> Tensor:
        probe = Probe(host.noised(latents, sigma, draws), sigma, draws, 1)
        truth = (probe.x - latents) / expand(sigma, latents)
        columns = []
        for d in probe.compared(host, readings):
            columns.append((d - truth).pow(2).flatten(1).mean(1))
            tick()
        return torch.stack(columns, 1)

    made_of = (latents, *(p for reading in readings for p in reading.parts()), part, tuple(seeds))
    found = saved_tensor(host, "read", made_of, errors).cpu()
    if not torch.isfinite(found[torch.isfinite(latents).flatten(1).all(1).cpu()]).all():
        raise TrainingFailed(not_finite("answers with", "where the check reads its pictures"))
    return found
