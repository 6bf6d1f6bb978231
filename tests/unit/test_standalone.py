"""The standalone model against diffusers' own prediction and sampler, and the tokenizer against CLIP's."""

from types import SimpleNamespace

import pytest
import torch
from transformers.models.clip import modeling_clip

from unlearn_core import Stack, UnlearnError
from unlearn_core.demo.recognition import CHECKPOINT
from unlearn_core.sampling import noise
from unlearn_core.standalone import clip_tokenizer
from unlearn_core.standalone.model import TILED_FROM, StandaloneModel, half_type

PROMPTS = ["a banana in ink style", ""]


@pytest.fixture(scope="module")
def host():
    return StandaloneModel(CHECKPOINT, half=False)


def test_what_a_session_has_read_is_given_back_at_its_end(host, monkeypatch):
    read, own = [], host._read
    monkeypatch.setattr(host, "_read", lambda prompts: read.extend(prompts) or own(prompts))
    with host.session(Stack()):
        for _ in range(2):
            host.encode(["otter"])
        assert read == ["otter"]
    host.encode(["otter"])
    assert read == ["otter"] * 2


def test_on_a_small_card_what_reads_and_decodes_stays_until_the_next_pass(host, monkeypatch):
    """A list of prompts is read in many parts: it must not travel to the card and back for each."""
    moves, names = [], {id(m): n for m, n in zip(host.companions, ["text", "autoencoder"], strict=True)}
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, place: moves.append((names[id(self)], str(place))) or self)
    monkeypatch.setattr(host, "device", torch.device("cpu", 0))
    host.offload = True
    try:
        assert moves == [("text", "cpu"), ("autoencoder", "cpu")]
        moves.clear()
        c = host.encode([f"{n} otters" for n in range(30)])[:1]
        assert moves == [("text", "cpu:0")]
        x = torch.zeros(1, 4, 8, 8)
        host.denoise(x, host.sigmas[:1], c)
        host.denoise(x, host.sigmas[:1], c)
        assert moves[1:] == [("text", "cpu")]
        host.decode(x), host.decode(x), host.encode(["an otter"])
        assert moves[2:] == [("autoencoder", "cpu:0"), ("text", "cpu:0")]
        moves.clear()
        monkeypatch.setattr("unlearn_core.device_memory.free_bytes", lambda device: 1)
        host.denoise(x, host.sigmas[:1], c), host.decode(x), host.encode(["two otters"])
        gone = [("text", "cpu"), ("autoencoder", "cpu")]
        assert moves == [*gone, ("autoencoder", "cpu:0"), gone[1], ("text", "cpu:0")], "one at a time"
    finally:
        host.offload = False


def test_tiles_end_with_the_short_memory(host, monkeypatch):
    monkeypatch.setattr(host, "latent_shape", (4, TILED_FROM, TILED_FROM))
    tiled = [host.vae.use_tiling]
    for on in (True, False):
        host.offload = on
        tiled.append(host.vae.use_tiling)
    assert tiled == [False, True, False]


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


def test_a_text_encoder_that_keeps_its_count_of_positions_reads_the_same(host, monkeypatch):
    """As transformers before 4.31 has it among the weights; the checkpoint has not."""
    embeddings = modeling_clip.CLIPTextEmbeddings
    make = embeddings.__init__

    def older(self, settings):
        make(self, settings)
        positions = self.position_ids
        del self.position_ids
        self.register_buffer("position_ids", positions, persistent=True)

    monkeypatch.setattr(embeddings, "__init__", older)
    model = StandaloneModel(CHECKPOINT, half=False)
    assert torch.equal(model.encode(PROMPTS).tokens, host.encode(PROMPTS).tokens)


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), torch.float16), ((8, 0), torch.bfloat16)])
def test_a_card_that_only_imitates_bfloat16_takes_float16(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert half_type(torch.device("cuda")) is expected


def test_a_torch_without_a_library_for_bfloat16_computes_in_float32(monkeypatch):
    """As it comes for Apple's processors: each run there ended at once."""
    monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace())
    assert half_type(torch.device("cpu")) is None
    monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace(_is_mkldnn_bf16_supported=lambda: True))
    assert half_type(torch.device("cpu")) == torch.bfloat16


def test_a_second_session_is_refused_and_the_first_one_goes_on(host):
    second = host.session(Stack())
    with host.session(Stack()), pytest.raises(UnlearnError, match="The model is at work"):
        second.__enter__()
    with host.session(Stack()):
        pass
