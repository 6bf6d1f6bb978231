"""The standalone model against diffusers' own prediction and sampler, and the tokenizer against CLIP's."""

import pytest
import torch

from unlearn_core import Stack
from unlearn_core.demo.recognition import CHECKPOINT
from unlearn_core.sampling import direction, euler, noise, schedule
from unlearn_core.standalone import clip_tokenizer
from unlearn_core.standalone.model import StandaloneModel

PROMPTS = ["a banana in ink style", ""]


@pytest.fixture(scope="module")
def host():
    return StandaloneModel(CHECKPOINT, half=False)


def test_prompts_asked_for_last_are_remembered(host, monkeypatch):
    monkeypatch.setattr("unlearn_core.remembered.MOST", 2)
    read, own = [], host._read
    monkeypatch.setattr(host, "_read", lambda prompts: read.extend(prompts) or own(prompts))
    first = host.encode(["one", "two", "three"])
    assert torch.equal(host.encode(["three", "two"]).tokens, first[[2, 1]].tokens)
    assert read == ["one", "two", "three"]
    assert torch.allclose(host.encode(["one", "two"]).tokens, first[[0, 1]].tokens, atol=1e-5)
    host.encode(["three"])
    assert read == ["one", "two", "three", "one", "three"]


def test_a_long_list_is_read_and_not_remembered(host, monkeypatch):
    monkeypatch.setattr("unlearn_core.remembered.LIST", 2)
    read, own = [], host._read
    monkeypatch.setattr(host, "_read", lambda prompts: read.append(list(prompts)) or own(prompts))
    host.encode(["lion"])
    whole = host.encode(["tiger", "lion", "bear", "wolf", "tiger"])
    assert read == [["lion"], ["tiger", "bear", "wolf"]] and torch.equal(whole.tokens[0], whole.tokens[4])
    assert torch.equal(host.encode(["lion"]).tokens, whole[[1]].tokens)
    assert torch.allclose(host.encode(["bear", "wolf"]).tokens, whole[[2, 3]].tokens, atol=1e-5)
    assert read[2:] == [["bear", "wolf"]]


def test_what_a_session_has_read_is_given_back_at_its_end(host, monkeypatch):
    read, own = [], host._read
    monkeypatch.setattr(host, "_read", lambda prompts: read.extend(prompts) or own(prompts))
    with host.session(Stack()):
        for _ in range(2):
            host.encode(["otter"])
        assert read == ["otter"]
    host.encode(["otter"])
    assert read == ["otter"] * 2


def test_direction_equals_diffusers_epsilon_at_ten_noise_levels(host):
    c = host.encode(PROMPTS)
    for t in range(50, 1000, 100):
        x, sigma = noise((2, *host.latent_shape), t, host.device), host.sigmas[[t, t]]
        scaled = x / (1 + sigma[0] ** 2).sqrt()
        with torch.no_grad():
            wanted = host.backbone(scaled, t, c.tokens).sample
            got = direction(host, x, sigma, c)
        assert torch.allclose(got, wanted, atol=1e-5 * max(1.0, 1 / float(sigma[0]))), t


def test_v_prediction_gives_the_same_clean_latent_as_diffusers(host):
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        clip_sample=False,
    )
    c = host.encode(PROMPTS[:1])
    host.prediction_type = "v_prediction"
    try:
        for t in range(50, 1000, 100):
            abar = scheduler.alphas_cumprod[t]
            z_t, sigma = noise((1, *host.latent_shape), t, host.device), host.sigmas[[t]]
            with torch.no_grad():
                v = host.backbone(z_t, t, c.tokens).sample
                wanted = abar.sqrt() * z_t - (1 - abar).sqrt() * v
                assert torch.allclose(host.denoise(z_t / abar.sqrt(), sigma, c), wanted, atol=1e-4), t
    finally:
        host.prediction_type = "epsilon"


def test_euler_equals_diffusers_euler(host):
    from diffusers import EulerDiscreteScheduler

    sigmas, c, start = schedule(host, 8), host.encode(PROMPTS[:1]), noise((1, *host.latent_shape), 0, host.device)
    scheduler = EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    levels = torch.linspace(999, 0, 9)[:-1].round().long()
    scheduler.set_timesteps(timesteps=levels.tolist())
    assert torch.allclose(scheduler.sigmas.float(), sigmas, atol=1e-4)
    x = start * sigmas[0]
    with torch.no_grad():
        for t in scheduler.timesteps:
            out = host.backbone(scheduler.scale_model_input(x, t), t, c.tokens).sample
            x = scheduler.step(out, t, x).prev_sample
    assert torch.allclose(euler(host, c, start, sigmas), x, atol=2e-4)


def test_noise_levels_are_the_trained_schedule(host):
    assert len(host.sigmas) == 1000
    assert host.sigmas[-1].item() == pytest.approx(14.6146, abs=1e-3)
    assert host.sigmas[0].item() == pytest.approx(0.0292, abs=1e-4)


def test_every_linear_layer_has_a_name_and_kohya_comes_first(host):
    paths = {n for n, m in host.backbone.named_modules() if isinstance(m, torch.nn.Linear)}
    layers = host.layers()
    assert set(layers.values()) == paths
    assert layers["lora_unet_middle_block_1_transformer_blocks_0_attn2_to_k"].endswith(
        "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
    )


def test_bundled_merges_give_clips_own_token_numbers(tmp_path):
    from transformers import CLIPTokenizer

    entries = clip_tokenizer.write_tokenizer(tmp_path, clip_tokenizer.read_merges())
    assert entries == 49408
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path)
    # numbers as published with CLIP for its own example sentence
    assert tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert tokenizer("a diagram").input_ids == [49406, 320, 22697, 49407]


def test_decoded_pictures_are_on_the_cpu_between_zero_and_one(host):
    pictures = host.decode(noise((2, *host.latent_shape), 0, host.device))
    assert pictures.shape == (2, 3, 128, 128) and pictures.device.type == "cpu"
    assert pictures.min() >= 0 and pictures.max() <= 1
