"""Rectified flow behind the denoiser contract: noising, direction and samples as diffusers' own scheduler has them."""

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from tests.tiny import TinyHost
from tests.unit.runs import assert_same, config, run, state_of
from unlearn_core.sampling import Sampler, direction, noise, schedule


class TinyFlow(TinyHost):
    """The tiny network read as a flow: its answer is the velocity n - z, and sigma 1 is noise alone."""

    prediction_type = "flow"

    def __init__(self):
        super().__init__()
        self.sigmas = torch.linspace(0.01, 1, 100)

    def noised(self, latents, sigma, noise):
        s = sigma.view(-1, 1, 1, 1)
        return (1 - s) * latents + s * noise

    def denoise(self, x, sigma, conditioning):
        return x - sigma.view(-1, 1, 1, 1) * self.backbone(x, sigma, conditioning.tokens)


@pytest.fixture
def host():
    return TinyFlow()


@pytest.fixture
def scheduler():
    return FlowMatchEulerDiscreteScheduler()


def test_direction_equals_diffusers_velocity_at_ten_levels(host, scheduler):
    c = host.encode(["a photo of a cat"])
    z, n = (noise((1, *host.latent_shape), seed, host.device) for seed in (0, 1))
    for sigma in host.sigmas[9::10]:
        scheduler.set_timesteps(sigmas=[float(sigma)])
        x = scheduler.scale_noise(z, scheduler.timesteps, n)
        assert torch.allclose(host.noised(z, sigma[None], n), x, atol=1e-6, rtol=0)
        velocity = host.backbone(x, sigma[None], c.tokens)
        clean = scheduler.step(velocity, scheduler.timesteps[0], x).prev_sample
        got = direction(host, x, sigma[None], c)
        assert torch.allclose(got, velocity, atol=1e-5, rtol=0), sigma
        assert torch.allclose(x - sigma * got, clean, atol=1e-5, rtol=0), sigma


def test_samples_equal_diffusers(host, scheduler):
    c, start = host.encode(["a photo of a cat"]), noise((1, *host.latent_shape), 0, host.device)
    sigmas = schedule(host, 8)
    scheduler.set_timesteps(sigmas=sigmas[:-1].tolist())
    x = start
    for sigma, t in zip(sigmas, scheduler.timesteps, strict=False):
        x = scheduler.step(host.backbone(x, sigma[None], c.tokens), t, x).prev_sample
    assert x.std() > 0.1
    assert torch.allclose(Sampler(host, guidance=1.0).along(c, start, sigmas), x, atol=1e-4, rtol=0)


def test_a_flow_forgets_and_comes_back_as_it_was(host):
    before = state_of(host)
    result = run(host, config())
    assert result.delta.info.prediction_type == "flow"
    assert all(f.up.norm() > 0 for f in result.delta.factors.values())
    assert_same(before, state_of(host))
