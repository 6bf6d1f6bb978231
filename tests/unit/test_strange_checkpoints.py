"""Checkpoint files of other families, with parts missing, with additions or with numbers out of all bounds."""

import time

import pytest
import torch
from safetensors.torch import save_file

from tests.checkpoints import Small
from unlearn_core.errors import BadCheckpoint
from unlearn_core.standalone import networks, text_encoders
from unlearn_core.standalone.checkpoint import open_checkpoint, read_weights
from unlearn_core.standalone.model import StandaloneModel
from unlearn_core.standalone.weights import finite, unscaled

UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer."
OPEN_CLIP, XL_TEXT = "cond_stage_model.model.", "conditioner.embedders.0.transformer."
XL_OPEN_CLIP = "conditioner.embedders.1.model."
HUGE = 10**9


@pytest.fixture(scope="module")
def kinds():
    return {kind: {n: t.detach() for n, t in Small(kind).tensors.items()} for kind in ("sd1", "sd2", "sdxl")}


def written(folder, tensors, metadata=None):
    file = folder / "a.safetensors"
    save_file({n: t.contiguous().clone() for n, t in tensors.items()}, file, metadata)
    return file


def refused(folder, tensors, words, metadata=None):
    """Refused without long work, in one visible sentence that says what is wrong."""
    file, start = written(folder, tensors, metadata), time.process_time()
    with pytest.raises(BadCheckpoint, match=words) as caught:
        networks.load(file, torch.float32)
    assert time.process_time() - start < 10
    message = str(caught.value)
    assert message.isprintable() and len(message) < 500 and message.endswith((".", ")"))
    return message


# What a file is


def renamed(tensors, old, new):
    return {n.replace(old, new) if n.startswith(old) else n: t for n, t in tensors.items()}


CHANGES = {
    "SD2 with SD1's kind of text encoder": (
        "sd2",
        lambda t: {n: x for n, x in t.items() if not n.startswith(OPEN_CLIP)} | {TEXT + "text_model.x": torch.ones(1)},
        "cannot be told",
    ),
    "SD1 with SD2's": (
        "sd1",
        lambda t: {n: x for n, x in t.items() if not n.startswith(TEXT)} | {OPEN_CLIP + "x": torch.ones(1)},
        "cannot be told",
    ),
    "both": ("sd1", lambda t: t | {OPEN_CLIP + "x": torch.ones(1)}, "two families"),
    "text encoder of another width": (
        "sd1",
        lambda t: t | {n: x[:, :32] if x.dim() == 2 else x for n, x in t.items() if n.endswith("attn2.to_k.weight")},
        "do not belong together",
    ),
    "instruct-pix2pix": ("sd1", lambda t: t | {UNET + "input_blocks.0.0.weight": torch.ones(32, 8, 3, 3)}, "8 input"),
    "LCM": ("sd1", lambda t: t | {UNET + "time_embed.cond_proj.weight": torch.ones(32, 256)}, "guidance"),
    "SSD-1B": (
        "sdxl",
        lambda t: {n: x for n, x in t.items() if "output_blocks.0.1.transformer_blocks.2." not in n},
        "distilled model like SSD-1B",
    ),
    "no attention in the middle": (
        "sdxl",
        lambda t: {n: x for n, x in t.items() if not n.startswith(UNET + "middle_block.1.")},
        "middle",
    ),
    "IP-adapter inside": (
        "sd1",
        lambda t: t | {UNET + "middle_block.1.transformer_blocks.0.attn2.processor.to_k_ip.weight": torch.ones(3, 3)},
        "no place for: middle_block.1.transformer_blocks.0.attn2.processor.to_k_ip.weight",
    ),
    "layer under a foreign name": ("sd1", lambda t: t | {UNET + "foreign.weight": torch.ones(1)}, "foreign.weight"),
    "text layer under a foreign name": (
        "sd1",
        lambda t: t | {TEXT + "adapter.weight": torch.ones(1)},
        "adapter.weight",
    ),
    "text encoder of SD2 already cut": (
        "sd2",
        lambda t: {n: x for n, x in t.items() if "resblocks.3." not in n and "text_projection" not in n},
        "whether its last one is there",
    ),
    "another tokenizer's text encoder": (
        "sd1",
        lambda t: t | {n: x[:600] for n, x in t.items() if n.endswith("token_embedding.weight")},
        "knows 600 tokens, but its tokenizer gives 49408",
    ),
    "a block of number 10^9": (
        "sd1",
        lambda t: t | {UNET + f"input_blocks.{HUGE}.0.op.weight": torch.ones(1)},
        "blocks",
    ),
    "a text layer of number 10^6": (
        "sd1",
        lambda t: t | {TEXT + "text_model.encoder.layers.1000000.mlp.fc1.weight": torch.ones(1)},
        "1000001 layers",
    ),
    "a level of number 10^9 in the autoencoder": (
        "sd1",
        lambda t: t | {VAE + f"decoder.up.{HUGE}.block.0.conv1.weight": torch.ones(1)},
        "autoencoder",
    ),
    "a matrix that is none": ("sd1", lambda t: t | {UNET + "out.2.weight": torch.ones(3)}, r"out.2.weight is \[3\]"),
    "text embedding that is no matrix": (
        "sd1",
        lambda t: t | {TEXT + "text_model.embeddings.token_embedding.weight": torch.ones(3)},
        "token_embedding.weight missing",
    ),
}


@pytest.mark.parametrize("case", CHANGES)
def test_what_is_in_doubt_is_refused(kinds, tmp_path, case):
    kind, change, words = CHANGES[case]
    refused(tmp_path, change(kinds[kind]), words)


@pytest.mark.parametrize(
    "name, family",
    [
        ("model.diffusion_model.double_blocks.0.img_attn.qkv.weight", "Flux"),
        ("model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight", "Stable Diffusion 3"),
        ("transformer_blocks.0.img_mod.1.weight", "Qwen-Image"),
        ("cap_embedder.0.weight", "Lumina"),
        ("lora_unet_x.lora_down.weight", "LoRA"),
        ("control_model.input_blocks.0.0.weight", "ControlNet"),
        ("down_blocks.0.resnets.0.conv1.weight", "diffusers"),
        ("decoder.conv_in.weight", "VAE"),
        ("something.else", "no denoiser"),
    ],
)
def test_other_families_are_named(tmp_path, name, family):
    refused(tmp_path, {name: torch.ones(1)}, f"not a Stable Diffusion checkpoint: .*{family}")


@pytest.mark.parametrize("width, count, read", [(1024, 24, 23), (1024, 23, 23), (1280, 32, 31), (64, 4, 3)])
def test_the_last_layer_of_sd2s_text_encoder_is_left_out_once(width, count, read):
    own = {"ln_final.weight": torch.empty(width), "text_projection": torch.empty(1)}
    assert text_encoders.layers_to_read(own, count) == read


@pytest.mark.parametrize("width, count", [(1024, 22), (1024, 25), (64, 4)])
def test_a_text_encoder_of_unknown_length_is_refused(width, count):
    with pytest.raises(BadCheckpoint, match="cannot be told"):
        text_encoders.layers_to_read({"ln_final.weight": torch.empty(width)}, count)


def test_sdxl_as_new_transformers_write_it_reads_text_the_same(kinds, tmp_path):
    tensors = kinds["sdxl"]
    plain = StandaloneModel(written(tmp_path, tensors), half=False, resolution=64).encode(["a cat"])
    flat = renamed(tensors, XL_TEXT + "text_model.", XL_TEXT)
    assert flat.keys() != tensors.keys()
    other = StandaloneModel(written(tmp_path, flat), half=False, resolution=64).encode(["a cat"])
    assert torch.equal(plain.tokens, other.tokens) and torch.equal(plain.extras["pooled"], other.extras["pooled"])


# What is missing is named, never made up


@pytest.mark.parametrize(
    "kind, name, told",
    [
        ("sd1", UNET + "input_blocks.1.0.in_layers.2.weight", "input_blocks.1.0.in_layers.2.weight"),
        ("sd2", UNET + "out.2.bias", "out.2.bias"),
        ("sdxl", UNET + "label_emb.0.2.weight", "label_emb.0.2.weight"),
        ("sd1", VAE + "decoder.up.0.block.1.norm2.bias", "decoder.up.0.block.1.norm2.bias"),
        ("sd1", VAE + "encoder.mid.attn_1.q.weight", "encoder.mid.attn_1.q.weight"),
        ("sd1", VAE + "decoder.up.1.block.0.conv1.weight", "decoder.up.1.block.0.conv1.weight"),
        ("sd1", TEXT + "text_model.encoder.layers.1.mlp.fc2.bias", "text_model.encoder.layers.1.mlp.fc2.bias"),
        ("sd1", TEXT + "text_model.embeddings.token_embedding.weight", "token_embedding.weight"),
        ("sd2", OPEN_CLIP + "transformer.resblocks.1.attn.in_proj_bias", "layers.1.self_attn.k_proj.bias"),
        ("sd2", OPEN_CLIP + "positional_embedding", "position_embedding.weight"),
        ("sdxl", XL_OPEN_CLIP + "text_projection", "text_projection"),
        ("sdxl", XL_OPEN_CLIP + "ln_final.bias", "final_layer_norm.bias"),
    ],
)
def test_a_missing_tensor_is_named(kinds, tmp_path, kind, name, told):
    tensors = dict(kinds[kind])
    del tensors[name]
    refused(tmp_path, tensors, told)


def test_many_missing_tensors_are_counted(kinds, tmp_path):
    tensors = {n: t for n, t in kinds["sd1"].items() if not n.startswith(VAE + "encoder")}
    lost = len(kinds["sd1"]) - len(tensors)
    refused(tmp_path, tensors, rf"encoder\.conv_in\.bias, .* and {lost - 3} more missing \({lost} of ")


def test_an_autoencoder_with_diffusers_names_of_attention_is_read(kinds, tmp_path):
    tensors = {
        n.replace("attn_1.q.", "attn_1.to_q.").replace("attn_1.proj_out.", "attn_1.to_out.0."): t
        for n, t in kinds["sd1"].items()
    }
    one, other = (networks.load(written(tmp_path, t), torch.float32).vae.state_dict() for t in (kinds["sd1"], tensors))
    assert all(torch.equal(t, other[n]) for n, t in one.items())


# Numbers


@pytest.mark.parametrize(
    "name",
    [
        UNET + "input_blocks.0.0.weight",
        UNET + "middle_block.1.proj_in.weight",
        UNET + "middle_block.1.transformer_blocks.0.attn2.to_v.weight",
        TEXT + "text_model.encoder.layers.0.mlp.fc1.weight",
        VAE + "decoder.conv_in.weight",
    ],
)
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_a_tensor_that_is_not_finite_is_named(kinds, tmp_path, name, value):
    tensor = kinds["sd1"][name].clone()
    tensor.view(-1)[-1] = value
    refused(tmp_path, kinds["sd1"] | {name: tensor}, name.split("model.")[-1].replace("text_", ""))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_one_bad_number_is_found_anywhere(dtype):
    good = torch.randn(1000).to(dtype)
    assert finite(good, "x") is good and finite(torch.empty(0), "x").numel() == 0
    for value in (float("nan"), float("inf"), float("-inf")):
        for at in (0, 500, 999):
            bad = good.clone()
            bad[at] = value
            with pytest.raises(BadCheckpoint, match="not finite"):
                finite(bad, "x")


def test_numbers_that_the_type_cannot_hold_are_told(kinds, tmp_path):
    name = UNET + "out.2.weight"
    file = written(tmp_path, kinds["sd1"] | {name: torch.full_like(kinds["sd1"][name], 1e9)})
    networks.load(file, torch.float32)
    with pytest.raises(BadCheckpoint, match=r"out\.2\.weight numbers that are not finite"):
        networks.load(file, torch.float16)


@pytest.mark.parametrize("end", ["scale_weight", "weight_scale"])
def test_scaled_float8_is_read_with_its_scales(kinds, tmp_path, end):
    tensors, wanted = dict(kinds["sd1"]), {}
    for name, t in kinds["sd1"].items():
        if t.dim() == 2 and name.endswith("proj.weight" if name.startswith(TEXT) else "to_k.weight"):
            tensors[name] = (t / 0.01).to(torch.float8_e4m3fn)
            tensors[name.removesuffix("weight") + end] = torch.tensor(0.01)
            tensors[name.removesuffix("weight") + "scale_input"] = torch.tensor(1.0)
            wanted[name] = tensors[name].float() * torch.tensor(0.01)
    tensors[UNET + "scaled_fp8"] = torch.empty(0)
    read, _ = read_weights(written(tmp_path, tensors))
    assert len(wanted) > 20 and all(torch.equal(read[n], t) for n, t in wanted.items())
    assert read.keys() == kinds["sd1"].keys()
    networks.load(tmp_path / "a.safetensors", torch.float32)


@pytest.mark.parametrize(
    "extra, words",
    [
        ({"x.weight": torch.ones(2, dtype=torch.int8)}, "int8"),
        ({"x.weight": torch.ones(2, dtype=torch.uint8), "x.weight.absmax": torch.ones(1)}, "quantised"),
        ({"x.qweight": torch.ones(2, dtype=torch.int32)}, "quantised"),
        ({"x.weight": torch.ones(2), "x.scale_weight": torch.ones(2)}, "scaled weights"),
        ({"x.weight": torch.ones(2), "x.scale_weight": torch.tensor(float("nan"))}, "scaled weights"),
        ({"x.scale_weight": torch.tensor(1.0)}, "scaled weights"),
    ],
)
def test_other_quantisations_are_refused(extra, words):
    with pytest.raises(BadCheckpoint, match=words):
        unscaled(extra, "a.safetensors")


# What the author says


def test_the_authors_word_on_the_prediction_counts(kinds, tmp_path):
    def read(said, **extra):
        return open_checkpoint(written(tmp_path, kinds["sd1"] | extra, {"modelspec.prediction_type": said})).facts

    assert read("v").prediction_type == read("v_prediction").prediction_type == "v_prediction"
    assert read("epsilon").prediction_type == read("").prediction_type == "epsilon"
    zero = read("v", v_pred=torch.ones(1), ztsnr=torch.ones(1))
    assert zero.prediction_type == "v_prediction" and zero.zero_snr and zero.sigmas()[-1] > 4000
    with pytest.raises(BadCheckpoint, match="not a kind of prediction"):
        read("sample")
    with pytest.raises(BadCheckpoint, match="texts say epsilon: say which by --prediction"):
        read("epsilon", v_pred=torch.ones(1))
    assert open_checkpoint(tmp_path / "a.safetensors", "v_prediction").facts.prediction_type == "v_prediction"


def test_a_distilled_model_is_said_to_be_one(kinds, tmp_path):
    assert open_checkpoint(written(tmp_path, kinds["sdxl"])).facts.notes == ()
    file = written(tmp_path, kinds["sdxl"], {"modelspec.title": "My SDXL-Turbo mix"})
    (note,) = StandaloneModel(file, half=False, resolution=64).notes
    assert "distilled to a few steps (turbo)" in note


def test_files_that_are_no_safetensors_are_refused(kinds, tmp_path):
    data = written(tmp_path, {UNET + "input_blocks.0.0.weight": torch.ones(4, 4, 3, 3)}).read_bytes()
    file = tmp_path / "b.safetensors"
    for content in (b"", data[:4], data[:-1], data + b"x", b"\x80\x04" * 50, b"<html>" * 99, bytes(64)):
        file.write_bytes(content)
        with pytest.raises(BadCheckpoint, match="not a readable .safetensors"):
            networks.load(file, torch.float32)
    for suffix in (".ckpt", ".PT", ".bin"):
        with pytest.raises(BadCheckpoint, match="pickle"):
            networks.load(tmp_path / f"a{suffix}", torch.float32)
    with pytest.raises(BadCheckpoint, match="no checkpoint at"):
        networks.load(tmp_path / "none.safetensors", torch.float32)
