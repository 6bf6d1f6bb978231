"""What a checkpoint is, told from its tensors; its networks against the ones that it was written from."""

import json

import pytest
import torch
from safetensors.torch import save_file

from tests.checkpoints import CONTEXT, OPEN_CLIP_WIDTH, SHAPES, Small
from unlearn_core.errors import BadCheckpoint
from unlearn_core.host import base_of
from unlearn_core.sampling import Sampler, direction, noise, schedule
from unlearn_core.standalone import networks
from unlearn_core.standalone.checkpoint import UNEVEN, open_checkpoint
from unlearn_core.standalone.model import StandaloneModel
from unlearn_core.standalone.schedule import discrete_sigmas

PROMPTS = ["a photo of a cat", ""]
KINDS = ("sd1", "sd2", "sdxl")
UNEVEN_BIAS = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"


@pytest.fixture(scope="module", params=KINDS)
def small(request):
    return Small(request.param)


@pytest.fixture(scope="module")
def host(small, tmp_path_factory):
    return StandaloneModel(
        small.write(tmp_path_factory.mktemp("small") / "any name.safetensors"), resolution=64, half=False
    )


def test_everything_is_read_off_the_tensors(small, host):
    assert (host.architecture, host.prediction_type) == (small.kind, "epsilon")
    assert host.shape == SHAPES[small.kind]
    assert host.backbone.config["cross_attention_dim"] == CONTEXT[small.kind]
    for mine, theirs in ((host.backbone, small.unet), (host.vae, small.vae)):
        state = mine.state_dict()
        assert state.keys() == theirs.state_dict().keys()
        assert all(torch.equal(state[n], t) for n, t in theirs.state_dict().items())


def test_networks_draw_as_the_ones_they_were_written_from(small, host):
    x, t = noise((2, *host.latent_shape), 0, host.device), torch.tensor([10, 700])
    c = host.encode(PROMPTS)
    added = {"text_embeds": c.extras.get("pooled"), "time_ids": c.extras.get("size")}
    with torch.no_grad():
        wanted = small.unet(x, t, c.tokens, added_cond_kwargs=added).sample
        assert torch.allclose(host.predict(x, t, c), wanted, atol=1e-6)
        picture = small.vae.decode(x / host.vae.config.scaling_factor).sample / 2 + 0.5
    assert torch.allclose(host.decode(x), picture.clamp(0, 1), atol=1e-5)
    assert host.vae.config.scaling_factor == pytest.approx(0.13025 if small.kind == "sdxl" else 0.18215)


def test_text_is_read_as_each_model_was_trained(small, host):
    from transformers import CLIPTokenizer

    c, ids = host.encode(PROMPTS), host.encoders[0].tokens(PROMPTS)
    assert ids.shape == (2, 77) and ids[0, :4].tolist() == [49406, 320, 1125, 539]
    assert isinstance(host.encoders[0].tokenizer, CLIPTokenizer)
    parts = []
    if small.clip is not None:
        out = small.clip(ids, output_hidden_states=True)
        parts.append(out.last_hidden_state if small.kind == "sd1" else out.hidden_states[-2])
        assert ids[0, -1] == 49407
    if small.open_clip is not None:
        ids = host.encoders[-1].tokens(PROMPTS)
        assert ids[0, -1] == 0
        hidden, pooled = small.open_clip(ids)
        if small.kind == "sd2":
            hidden = small.open_clip.ln_final(hidden)
        else:
            assert torch.allclose(c.extras["pooled"], pooled, atol=1e-4) and pooled.shape == (2, OPEN_CLIP_WIDTH)
            assert not torch.allclose(pooled[0], pooled[1])
            assert c.extras["size"].tolist() == [[64, 64, 0, 0, 64, 64]] * 2
        parts.append(hidden)
    assert torch.allclose(c.tokens, torch.cat(parts, -1).detach(), atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_files_and_extra_copies_are_the_same_model(small, host, tmp_path, dtype):
    name = "model_ema.input_blocks00weight"
    file = small.write(tmp_path / "half.safetensors", dtype, **{name: torch.ones(3), "lost": torch.ones(1)})
    other = open_checkpoint(file)
    assert name not in other.weights and "lost" not in other.weights
    assert other.facts == networks.open_checkpoint(file).facts
    made = networks.load(file, torch.float32)
    assert next(made.unet.parameters()).dtype == torch.float32
    assert (made.base.fingerprint == host.fingerprint) == (dtype == torch.float16)
    assert made.base.made(host.fingerprint, host.base_sample.text()), "rounded or not"
    assert base_of(host).made(made.base.fingerprint, made.base.sample.text())


def test_markers_and_overrules(small, tmp_path):
    one = torch.ones(1)
    file = small.write(tmp_path / "epsilon.safetensors", v_pred=one, ztsnr=one.clone())
    facts = open_checkpoint(file).facts
    assert facts.prediction_type == "v_prediction" and facts.zero_snr
    assert facts.pixels == {"sd1": 512, "sd2": 768, "sdxl": 1024}[small.kind]
    assert open_checkpoint(file, "epsilon").facts.prediction_type == "epsilon"
    (tmp_path / "epsilon.yaml").write_text("model: {params: {parameterization: eps}}", "utf-8")
    assert open_checkpoint(file).facts.prediction_type == "epsilon"
    with pytest.raises(BadCheckpoint, match="kind of prediction"):
        open_checkpoint(file, "guess")


def test_sd2_without_a_marker_is_told_by_its_uneven_bias(tmp_path):
    small = Small("sd2")
    size = small.tensors[UNEVEN_BIAS].numel()
    for deviation, kind in ((0.5 * UNEVEN, "epsilon"), (1.5 * UNEVEN, "v_prediction")):
        bias = torch.tensor([deviation, -deviation]).repeat(size // 2)
        file = small.write(tmp_path / "a.safetensors", **{UNEVEN_BIAS.replace(".", "__"): bias})
        assert open_checkpoint(file).facts.prediction_type == kind


@pytest.mark.parametrize(
    "kind, change, words",
    [
        ("sd1", {"model.diffusion_model.input_blocks.0.0.weight": (32, 9, 3, 3)}, "inpainting"),
        ("sdxl", {"model.diffusion_model.input_blocks.0.0.weight": (64, 9, 3, 3)}, "inpainting"),
        ("sd2", {"model.diffusion_model.label_emb.0.0.weight": (8, 8)}, "unCLIP"),
        ("sdxl", {"conditioner.embedders.0.model.ln_final.weight": (8,)}, "refiner"),
        ("sdxl", {"edm_mean": (4,)}, "EDM"),
    ],
)
def test_other_kinds_are_refused_in_words(tmp_path, kind, change, words):
    extra = {n.replace(".", "__"): torch.zeros(shape) for n, shape in change.items()}
    with pytest.raises(BadCheckpoint, match=words):
        StandaloneModel(Small(kind).write(tmp_path / "a.safetensors", **extra))


@pytest.mark.parametrize("left_out", ["cond_stage_model", "first_stage_model", "model.diffusion_model"])
def test_incomplete_files_are_refused(tmp_path, left_out):
    tensors = {n: t.detach().clone() for n, t in Small("sd1").tensors.items() if not n.startswith(left_out)}
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(BadCheckpoint):
        StandaloneModel(tmp_path / "a.safetensors")


def test_a_diffusers_folder_is_the_same_model(small, host, tmp_path):
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    host.backbone.save_pretrained(tmp_path / "unet")
    host.vae.save_pretrained(tmp_path / "vae")
    for i, e in enumerate(host.encoders):
        assert isinstance(e.model, CLIPTextModelWithProjection if e.pooled else CLIPTextModel)
        e.model.save_pretrained(tmp_path / f"text_encoder{'_2' if i else ''}")
        e.tokenizer.pad_token = "!" if e.pad == 0 else "<|endoftext|>"
        e.tokenizer.save_pretrained(tmp_path / f"tokenizer{'_2' if i else ''}")
    (tmp_path / "scheduler").mkdir()
    settings = {"prediction_type": "v_prediction", "beta_schedule": "scaled_linear"}
    (tmp_path / "scheduler" / "scheduler_config.json").write_text(json.dumps(settings), "utf-8")
    (tmp_path / "model_index.json").write_text("{}", "utf-8")
    folder = StandaloneModel(tmp_path, resolution=64, half=False, prediction_type="epsilon")
    assert (folder.architecture, folder.fingerprint) == (host.architecture, host.fingerprint)
    assert folder.base_sample.text() == host.base_sample.text()
    x, sigma = noise((2, *host.latent_shape), 1, host.device), host.sigmas[[300, 900]]
    with torch.no_grad():
        wanted = direction(host, x, sigma, host.encode(PROMPTS))
        assert torch.allclose(direction(folder, x, sigma, folder.encode(PROMPTS)), wanted, atol=1e-5)
    settings["rescale_betas_zero_snr"] = True
    (tmp_path / "scheduler" / "scheduler_config.json").write_text(json.dumps(settings), "utf-8")
    zero = StandaloneModel(tmp_path)
    assert zero.prediction_type == "v_prediction" and zero.sigmas[-1] > 4000


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(BadCheckpoint, match="model_index"):
        StandaloneModel(tmp_path)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_direction_and_euler_equal_diffusers(host, kind):
    from diffusers import EulerDiscreteScheduler

    host.prediction_type = kind
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=kind
    )
    c, start = host.encode(PROMPTS[:1]), noise((1, *host.latent_shape), 0, host.device)
    try:
        for t in range(50, 1000, 100):
            x, sigma = start * (1 + host.sigmas[t]), host.sigmas[[t]]
            scheduler.set_timesteps(timesteps=[t])
            with torch.no_grad():
                out = host.predict(scheduler.scale_model_input(x, t), torch.tensor([t]), c)
                clean = scheduler.step(out, scheduler.timesteps[0], x).pred_original_sample
                got = direction(host, x, sigma, c)
            # no relative part: x grows with sigma, d does not
            assert torch.allclose(got, (x - clean) / sigma, atol=1e-5, rtol=0), t
            if kind == "epsilon":
                assert torch.allclose(got, out, atol=1e-5, rtol=0), t
        sigmas = schedule(host, 8)
        scheduler.set_timesteps(timesteps=torch.linspace(999, 0, 9)[:-1].round().long().tolist())
        x = start * sigmas[0]
        with torch.no_grad():
            for t in scheduler.timesteps:
                out = host.predict(scheduler.scale_model_input(x, t), t[None].long(), c)
                x = scheduler.step(out, t, x).prev_sample
        assert torch.allclose(Sampler(host, guidance=1.0).along(c, start, sigmas), x, atol=1e-4, rtol=0)
    finally:
        host.prediction_type = "epsilon"


def test_zero_terminal_snr_levels_equal_diffusers_and_stay_finite():
    from diffusers import DDIMScheduler

    theirs = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", rescale_betas_zero_snr=True
    ).alphas_cumprod
    mine = discrete_sigmas(0.00085, 0.012, 1000, True)
    assert torch.isfinite(mine).all() and (mine.diff() > 0).all()
    assert torch.allclose(mine[:-1], ((1 - theirs) / theirs).sqrt()[:-1], rtol=1e-3)
    assert mine[-1] == pytest.approx(4518.8, abs=0.1)
