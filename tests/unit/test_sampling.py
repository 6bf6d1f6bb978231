"""Euler sampling and the denoiser contract, on a distribution whose denoiser is known exactly."""

import pytest
import torch

from tests.tiny import TinyHost
from unlearn_core.errors import TrainingFailed
from unlearn_core.host import Conditioning
from unlearn_core.method.score_distance import at_all_levels, importance, score_distances
from unlearn_core.sampling import LatentBank, Probe, Sampler, direction, noise, probe_levels, schedule


class Gaussian:
    """Data ~ N(m, s^2) per element, m the mean token of the prompt: D(x; sigma) = m + s^2/(s^2+sigma^2) (x - m)."""

    latent_shape, device = (1, 2, 2), torch.device("cpu")
    spread = 0.5

    def __init__(self):
        self.sigmas = torch.logspace(-3, 1.5, 1000)

    def noised(self, z, sigma, n):
        return z + sigma.view(-1, 1, 1, 1) * n

    def denoise(self, x, sigma, c):
        m, v = c.tokens.mean((1, 2)).view(-1, 1, 1, 1), self.spread**2
        return m + v / (v + sigma.view(-1, 1, 1, 1) ** 2) * (x - m)


def prompts(*means):
    return Conditioning(torch.tensor(means).view(-1, 1, 1))


def test_euler_finds_the_distribution():
    host = Gaussian()
    x = Sampler(host, 400, 1.0, batch=800).draw(prompts(*[2.0] * 800), 0)
    assert x.mean().item() == pytest.approx(2.0, abs=0.06)
    assert x.std().item() == pytest.approx(0.5, abs=0.04)


def test_euler_step_by_hand():
    host = Gaussian()
    sigmas = torch.tensor([2.0, 1.0, 0.0])
    out = Sampler(host, guidance=1.0).along(prompts(0.0), torch.ones(1, 1, 2, 2), sigmas)
    # x=2: D=.25/4.25*2, d=(2-D)/2, x=2-d; then D again is the result
    d = (2 - 0.25 / 4.25 * 2) / 2
    assert out[0, 0, 0, 0].item() == pytest.approx(0.25 / 1.25 * (2 - d), abs=1e-6)


def test_guidance_extrapolates_and_one_is_plain():
    host, start, sigmas = Gaussian(), torch.zeros(1, 1, 2, 2), torch.tensor([30.0, 0.0])
    for g in (1.0, 3.0):
        got = Sampler(host, guidance=g, negative=prompts(1.0)).along(prompts(2.0), start, sigmas)
        assert got[0, 0, 0, 0].item() == pytest.approx(1 + g * (2 - 1), abs=0.01)


def test_a_picture_does_not_depend_on_the_batch():
    host, c = Gaussian(), prompts(1.0, 2.0, 3.0, 4.0, 5.0)
    whole = Sampler(host, 5, 1.0).draw(c, 3)
    assert torch.allclose(Sampler(host, 5, 1.0, batch=2).draw(c, 3), whole)
    assert torch.allclose(Sampler(host, 5, 1.0).draw(c[[2, 3, 4]], 3, first=2), whole[2:])


def test_each_step_of_each_batch_is_told():
    told = []
    Sampler(Gaussian(), 5, 1.0, lambda: told.append(1), batch=2).draw(prompts(1.0, 2.0, 3.0), 0)
    assert len(told) == 2 * 5


def test_the_empty_prompt_is_the_negative_one_unless_another_is_given():
    host, start, sigmas = TinyHost(), noise((1, 4, 4, 4), 0, torch.device("cpu")), torch.tensor([5.0, 1.0, 0.0])
    c = host.encode(["a cat"])
    empty, other = (Sampler(host, negative=host.encode([p])).along(c, start, sigmas) for p in ("", "a dog"))
    assert torch.equal(Sampler(host).along(c, start, sigmas), empty) and not torch.allclose(empty, other)


def test_prompts_are_compared_together_and_say_what_each_says_alone():
    host, passes = TinyHost(), []
    probe = Probe.make(host, noise((2, *host.latent_shape), 0, host.device), host.sigmas[[10, 90]], 1)
    asked = [host.encode([f"a {w}", f"the {w}"]) for w in ("cat", "dog", "owl", "bus", "car")]
    alone = [probe.directions(host, c) for c in asked]
    denoise = host.denoise
    host.denoise = lambda x, *more: passes.append(len(x)) or denoise(x, *more)
    together = list(probe.compared(host, asked, batch=9))
    assert passes == [8, 8, 4]
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(alone, together, strict=True))
    assert len(list(probe.compared(host, asked[:2], batch=1))) == 2, "one at least, however many rows it has"


def test_schedule_runs_from_the_highest_level_to_zero():
    host = Gaussian()
    sigmas = schedule(host, 10)
    assert len(sigmas) == 11 and sigmas[0] == host.sigmas[-1] and sigmas[-1] == 0
    assert (sigmas[1:] < sigmas[:-1]).all()


def test_bank_keeps_prompts_and_latents_together():
    bank = LatentBank.draw(Gaussian(), prompts(-5.0, 5.0), 3, 0, 20)
    assert bank.latents.shape == (2, 3, 1, 2, 2)
    picked = bank.pick(torch.tensor([1, 0, 1]), torch.Generator().manual_seed(0))
    assert (picked.mean((1, 2, 3)).sign() == torch.tensor([1.0, -1.0, 1.0])).all()


def test_two_banks_are_one_behind_the_other():
    one, other = (LatentBank.draw(Gaussian(), prompts(m), 2, 0, 5) for m in (-5.0, 5.0))
    both = one + other
    assert len(both) == 2 and torch.equal(both.latents, torch.cat([one.latents, other.latents]))
    assert both.conditioning.tokens.flatten().tolist() == [-5.0, 5.0]


def test_a_bank_of_numbers_that_are_not_finite_is_refused():
    with pytest.raises(TrainingFailed, match="full precision"):
        LatentBank.draw(Gaussian(), prompts(float("nan")), 1, 0, 2)


def test_score_distance_by_hand():
    host = Gaussian()
    levels = torch.tensor([0.5, 1.0])
    probe = Probe.make(host, torch.zeros(2, 1, 2, 2), levels, 0)
    got = score_distances(host, probe, prompts(1.0, 1.0), [prompts(1.0, 1.0), prompts(3.0, 3.0)])
    # d differs by (m2 - m1) (1 - v/(v+s^2)) / s = 2 s / (v + s^2)
    assert got[0].tolist() == [0.0, 0.0]
    want = [(2 * s / (0.25 + s * s)) ** 2 for s in (0.5, 1.0)]
    assert got[1].tolist() == pytest.approx(want, rel=1e-5)


def test_importance_is_a_distribution_that_follows_the_profile():
    weights = importance(at_all_levels(torch.tensor([0.0, 0.0, 1.0, 3.0]), 100))
    assert weights.sum().item() == pytest.approx(1.0, abs=1e-5)
    assert weights[:25].sum() < 0.06 < weights[75:].sum()
    assert (weights > 0).all()


def test_probe_levels_are_spread_over_the_trained_range():
    host = Gaussian()
    assert probe_levels(host, 4).tolist() == host.sigmas[[125, 375, 625, 875]].tolist()


def test_direction_of_an_epsilon_model_is_its_epsilon():
    host = TinyHost()
    x, sigma = noise((2, *host.latent_shape), 0, host.device), host.sigmas[[10, 90]]
    c = host.encode(["a", "b"])
    s = sigma.view(-1, 1, 1, 1)
    wanted = host.backbone(x / (1 + s * s).sqrt(), sigma, c.tokens)
    assert torch.allclose(direction(host, x, sigma, c), wanted, atol=1e-4)
