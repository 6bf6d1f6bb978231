"""Noise levels that a model was trained on, from what its configuration says; what is not known exactly is refused."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import BadCheckpoint
from .sidecar import Settings

PREDICTIONS = ("epsilon", "v_prediction")
SCALED, LINEAR = "scaled_linear", "linear"
MOST_STEPS = 10_000
SCHEDULERS = tuple(
    f"{name}Scheduler"
    for name in (
        *("DDIM", "DDPM", "PNDM", "LMSDiscrete", "EulerDiscrete", "EulerAncestralDiscrete", "HeunDiscrete"),
        *("DPMSolverMultistep", "DPMSolverSinglestep", "DPMSolverSDE", "KDPM2Discrete", "KDPM2AncestralDiscrete"),
        *("DEISMultistep", "UniPCMultistep", "SASolver", "DDIMParallel", "DDPMParallel", "LCM", "TCD"),
    )
)
"""diffusers' samplers of models that were trained with betas."""


@dataclass(frozen=True)
class Betas:
    """A schedule of `count` betas from `start` to `end`.

    kind: "scaled_linear" (evenly spaced roots) or "linear". zero_snr: shifted so that the last level is pure noise.
    """

    start: float = 0.00085
    end: float = 0.012
    count: int = 1000
    kind: str = SCALED
    zero_snr: bool = False

    def sigmas(self) -> Tensor:
        """All trained noise levels, ascending, `[count]`. Raises `BadCheckpoint` when they are none."""
        found = discrete_sigmas(self.start, self.end, self.count, self.zero_snr, self.kind)
        if not (bool(found.isfinite().all()) and bool((found.diff() > 0).all())):
            raise BadCheckpoint(f"A noise schedule of {self} has no usable levels; mend its configuration.")
        return found

    def __str__(self) -> str:
        return f"{self.count} betas from {self.start:g} to {self.end:g}"


def discrete_sigmas(start: float, end: float, count: int, zero_snr: bool = False, kind: str = SCALED) -> Tensor:
    """sigma_t = sqrt((1 - abar_t) / abar_t) of a schedule of betas, ascending, `[count]`.

    zero_snr: sqrt(abar) shifted and stretched to end at 0 (Lin et al. 2023, algorithm 1); the last level would be
    infinite and takes ComfyUI's stand-in, sigma = 4518.8.
    """
    if kind == SCALED:
        betas = torch.linspace(start**0.5, end**0.5, count, dtype=torch.float64) ** 2
    else:
        betas = torch.linspace(start, end, count, dtype=torch.float64)
    alphas = (1 - betas).cumprod(0)
    if zero_snr:
        root = alphas.sqrt()
        alphas = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
        alphas[-1] = 4.8973451890853435e-08
    return ((1 - alphas) / alphas).sqrt().float()


def from_yaml(params: Settings, zero_snr: bool) -> Betas:
    """The schedule of an LDM configuration, whose "linear" is the scaled one. Raises `BadCheckpoint`."""
    default = Betas()
    if params.values.get("given_betas") is not None:
        raise params.refuse("given_betas", "supported: only evenly spaced betas are")
    params.one_of("beta_schedule", "linear", ("linear",))
    return bounded(params, ("linear_start", "linear_end", "timesteps"), default, SCALED, zero_snr)


def bounded(settings: Settings, names: tuple[str, str, str], default: Betas, kind: str, zero_snr: bool) -> Betas:
    """Start, end and number of betas by their names in a configuration. Raises `BadCheckpoint`."""
    start = settings.number(names[0], default.start, 1e-7, 0.5)
    end = settings.number(names[1], default.end, 1e-7, 0.99)
    count = settings.whole(names[2], default.count, 10, MOST_STEPS)
    if start > end:
        raise settings.refuse(names[0], f"below {names[1]}")
    made = Betas(start, end, count, kind, zero_snr)
    made.sigmas()
    return made


def from_scheduler(config: Settings, name: str) -> tuple[Betas, str]:
    """(schedule, kind of prediction) of a folder's scheduler. Raises `BadCheckpoint` for what is not supported.

    name: the folder in a sentence.
    """
    known = config.text("_class_name")
    if known and known not in SCHEDULERS:
        what = "EDM noise levels (as Playground 2.5)" if known.startswith("EDM") else f"the noise schedule of {known}"
        raise BadCheckpoint(f"{name} was trained with {what}, which is not supported: use another checkpoint.")
    if config.values.get("trained_betas") is not None:
        raise BadCheckpoint(f"{name} brings a list of betas (trained_betas), which is not supported.")
    for other in ("use_flow_sigmas", "sigma_data"):
        if config.values.get(other):
            raise BadCheckpoint(f"{name} has a noise schedule with '{other}', which is not supported.")
    default = defaults_of(known)
    kind = config.values.get("beta_schedule", default.kind)
    if kind not in (SCALED, LINEAR):
        raise BadCheckpoint(f"{name} has the noise schedule '{str(kind)[:60]}', which is not supported.")
    betas = bounded(
        config, ("beta_start", "beta_end", "num_train_timesteps"), default, kind, config.flag("rescale_betas_zero_snr")
    )
    prediction = config.values.get("prediction_type", "epsilon")
    if prediction not in PREDICTIONS:
        raise BadCheckpoint(
            f"{name} predicts '{str(prediction)[:60]}', which is not supported: only {' and '.join(PREDICTIONS)} are."
        )
    return betas, prediction


def defaults_of(scheduler: str) -> Betas:
    """What diffusers takes where a scheduler's configuration is silent; Stable Diffusion's own without a class."""
    if not scheduler:
        return Betas()
    import diffusers

    given = inspect.signature(getattr(diffusers, scheduler).__init__).parameters
    names = ("beta_start", "beta_end", "num_train_timesteps", "beta_schedule")
    return Betas(*(given[name].default for name in names))
