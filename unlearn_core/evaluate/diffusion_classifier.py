"""The model itself as a classifier of pictures (diffusion classifier, Li et al. 2023, arXiv 2303.16203).

A picture is more likely to show c than q when the denoiser lands nearer to it under the prompt c.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..errors import TrainingFailed, not_finite
from ..host import Conditioning, HostModel
from ..sampling import Probe, expand
from ..saved_work import saved_tensor


@torch.no_grad()
def reading_errors(
    host: HostModel,
    latents: Tensor,
    readings: Sequence[Conditioning],
    levels: Sequence[float],
    seed: int,
    tick: Callable[[], None] = lambda: None,
) -> Tensor:
    """E || D(z_s; s, c) - z_0 ||^2 / s^2 of each picture under each reading, `[b, readings]`.

    The geometric mean of all levels, which count alike then (see `reading`).

    latents: clean latents `[b, c, h, w]`. Each reading has one row per picture. levels: parts of the trained noise
    range, 0..1. Noise is shared by all readings. Raises `TrainingFailed` where the model gives no finite numbers.
    """

    def errors() -> Tensor:
        at = torch.tensor([int(part * (len(host.sigmas) - 1)) for part in levels])
        probe = Probe.make(host, latents, host.sigmas[at.to(host.sigmas.device)], seed)
        clean = latents.repeat_interleave(probe.levels, 0)
        # (D - z_0) / s = (x - z_0) / s - d, in this form right for flow models too
        truth = (probe.x - clean) / expand(probe.sigma, probe.x)
        columns = []
        for d in probe.compared(host, readings):
            error = (d - truth).pow(2).flatten(1).mean(1)
            columns.append(error.view(-1, probe.levels).log().mean(1).exp())
            tick()
        return torch.stack(columns, 1)

    made_of = (latents, *(part for reading in readings for part in reading.parts()), tuple(levels), seed)
    found = saved_tensor(host, "read", made_of, errors)
    # pictures that are no numbers are the caller's affair; of others the model has to say something
    if not torch.isfinite(found[torch.isfinite(latents).flatten(1).all(1).to(found.device)]).all():
        raise TrainingFailed(not_finite("answers with", "where the check reads its pictures"))
    return found


def read_as(
    host: HostModel,
    latents: Tensor,
    readings: Sequence[Conditioning],
    levels: Sequence[float],
    seed: int,
    tick: Callable[[], None] = lambda: None,
) -> Tensor:
    """Number of the reading that fits each picture best, `[b]` on the CPU. Arguments as of `reading_errors`."""
    return reading_errors(host, latents, readings, levels, seed, tick).argmin(1).cpu()
