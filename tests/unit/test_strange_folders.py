"""Diffusers folders: of every form that diffusers opens, and with parts that are missing, foreign or hostile."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.checkpoints import Small
from unlearn_core.errors import BadCheckpoint
from unlearn_core.standalone import networks
from unlearn_core.standalone.folder import Folder
from unlearn_core.standalone.model import StandaloneModel

SCHEDULE = {"prediction_type": "epsilon", "beta_schedule": "scaled_linear", "_class_name": "DDIMScheduler"}
SCHEDULE |= {"beta_start": 0.00085, "beta_end": 0.012, "num_train_timesteps": 1000}
STEMS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A folder of a small SD1 model, and the model."""
    made = tmp_path_factory.mktemp("folder")
    host = StandaloneModel(Small("sd1").write(made / "a.safetensors"), half=False, resolution=64)
    folder = made / "model"
    host.backbone.save_pretrained(folder / "unet")
    host.vae.save_pretrained(folder / "vae")
    host.encoders[0].model.save_pretrained(folder / "text_encoder")
    host.encoders[0].tokenizer.save_pretrained(folder / "tokenizer")
    put(folder, "scheduler/scheduler_config.json", SCHEDULE)
    put(folder, "model_index.json", {"_class_name": "StableDiffusionPipeline"})
    return folder, host


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original[0], tmp_path / "model")


def put(folder, name, data):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(data if isinstance(data, str) else json.dumps(data), "utf-8")


def change(folder, name, **values):
    put(folder, name, json.loads((folder / name).read_text("utf-8")) | values)


def same(folder, host):
    """Whether a folder holds exactly the weights of a model."""
    made = networks.load(folder, torch.float32)
    pairs = [(made.unet, host.backbone), (made.vae, host.vae), (made.encoders[0].model, host.encoders[0].model)]
    states = [(a.state_dict(), b.state_dict()) for a, b in pairs]
    return all(a.keys() == b.keys() and all(torch.equal(t, b[n]) for n, t in a.items()) for a, b in states)


def refused(folder, words):
    with pytest.raises(BadCheckpoint, match=words) as caught:
        networks.load(folder, torch.float32)
    message = str(caught.value)
    assert message.isprintable() and len(message) < 500 and message.endswith((".", ")"))


# Forms that diffusers opens


def shard(folder, part, variant="", index="{stem}.safetensors.index{variant}.json"):
    """Cut a part's weights into two files with an index."""
    stem = STEMS[part]
    whole = folder / part / f"{stem}.safetensors"
    names, weight_map = load_file(whole), {}
    for number in (1, 2):
        file = f"{stem}{variant}-0000{number}-of-00002.safetensors"
        own = {n: t for i, (n, t) in enumerate(names.items()) if i % 2 == number - 1}
        save_file(own, folder / part / file, {"format": "pt"})
        weight_map |= dict.fromkeys(own, file)
    whole.unlink()
    put(folder, f"{part}/{index.format(stem=stem, variant=variant)}", {"metadata": {}, "weight_map": weight_map})


def test_a_plain_folder_is_read(original):
    assert same(*original)


def test_shards_are_read(original, folder):
    shard(folder, "unet")
    shard(folder, "text_encoder", ".fp16", "{stem}.safetensors.index.fp16.json")
    shard(folder, "vae", ".fp16", "{stem}.fp16.safetensors.index.json")
    assert same(folder, original[1])


def test_variants_are_read_part_by_part_and_the_plain_one_comes_first(original, folder):
    for part, variant in (("unet", "fp16"), ("vae", "bf16")):
        file = folder / part / f"{STEMS[part]}.safetensors"
        file.rename(file.with_name(f"{STEMS[part]}.{variant}.safetensors"))
    file = folder / "text_encoder" / "model.safetensors"
    save_file({n: t + 1 for n, t in load_file(file).items()}, file.with_name("model.fp16.safetensors"))
    assert same(folder, original[1])


def test_a_download_of_links_is_read(original, folder, tmp_path):
    blob = tmp_path / "blob"
    (folder / "unet" / "diffusion_pytorch_model.safetensors").rename(blob)
    (folder / "unet" / "diffusion_pytorch_model.safetensors").symlink_to(blob)
    assert same(folder, original[1])


def test_a_word_list_beside_a_folder_is_found_whatever_the_folders_name(original, tmp_path):
    """Of a dot and what comes after it nothing is cut off, as it is from a file's name."""
    for name, other in (("model", "mod"), ("stable-diffusion-v1.5", "stable-diffusion-v1")):
        folder = shutil.copytree(original[0], tmp_path / name)
        listed, wrong = (tmp_path / f"{n}.words.json" for n in (name, other))
        wrong.write_text("{}")
        assert StandaloneModel(folder, resolution=64).words_file is None
        listed.write_text("{}")
        assert StandaloneModel(f"{folder}/", resolution=64).words_file == str(listed)


def test_old_names_of_the_autoencoders_attention_are_read(original, folder):
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    old = {"to_q.": "query.", "to_k.": "key.", "to_v.": "value.", "to_out.0.": "proj_attn."}
    tensors = load_file(file)
    for new, name in old.items():
        tensors = {n.replace(new, name): t for n, t in tensors.items()}
    save_file(tensors, file)
    assert same(folder, original[1])


def test_text_of_any_layout_is_read(original, folder):
    file = folder / "text_encoder" / "model.safetensors"
    plain = {n.removeprefix("text_model."): t for n, t in load_file(file).items()}
    for tensors in (plain, {"text_model." + n: t for n, t in plain.items()}):
        save_file(tensors | {"text_model.embeddings.position_ids": torch.arange(77)}, file)
        assert same(folder, original[1])


def test_the_trained_size_is_the_folders(original, folder):
    change(folder, "unet/config.json", sample_size=16)
    assert StandaloneModel(folder, half=False).latent_shape == (4, 16, 16)
    change(folder, "unet/config.json", sample_size=[24, 24])
    assert StandaloneModel(folder, half=False).latent_shape == (4, 24, 24)


# What is missing


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_missing_part_is_named(folder, part):
    shutil.rmtree(folder / part)
    refused(folder, f"lacks {part};")


def test_an_index_alone_says_what_is_missing(tmp_path):
    put(tmp_path, "model_index.json", {"_class_name": "StableDiffusionXLPipeline"})
    refused(tmp_path, "lacks unet, vae, scheduler, text_encoder, tokenizer, text_encoder_2, tokenizer_2")


@pytest.mark.parametrize(
    "part, end",
    [("unet", "conv_out.weight"), ("vae", "decoder.conv_in.weight"), ("text_encoder", "layers.1.mlp.fc1.bias")],
)
def test_a_missing_tensor_is_named(folder, part, end):
    file = folder / part / f"{STEMS[part]}.safetensors"
    tensors = {n: t for n, t in load_file(file).items() if not n.endswith(end)}
    save_file(tensors, file)
    refused(folder, end.replace(".", r"\."))


def test_a_missing_shard_is_named(folder):
    shard(folder, "unet")
    (folder / "unet" / "diffusion_pytorch_model-00002-of-00002.safetensors").unlink()
    refused(folder, "unet lacks diffusion_pytorch_model-00002-of-00002.safetensors")


@pytest.mark.parametrize(
    "name", ["../../x.safetensors", "/etc/passwd", "..\\x.safetensors", "a/b.safetensors", "x.bin", 3]
)
def test_an_index_that_names_other_places_is_refused(folder, name):
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    put(folder, "unet/diffusion_pytorch_model.safetensors.index.json", {"weight_map": {"a": name}})
    refused(folder, "no file of its folder")


def test_pickles_are_never_opened(folder):
    (folder / "unet" / "diffusion_pytorch_model.safetensors").rename(folder / "unet" / "diffusion_pytorch_model.bin")
    refused(folder, "only pickle files")


# What is foreign


@pytest.mark.parametrize(
    "file, values, words",
    [
        ("model_index.json", {"_class_name": "FluxPipeline"}, "is a FluxPipeline"),
        ("model_index.json", {"_class_name": ["custom", "Own"]}, "not supported"),
        ("model_index.json", {"_class_name": "StableDiffusionInpaintPipeline"}, "StableDiffusionInpaintPipeline"),
        ("model_index.json", {"unet": ["my_code", "MyUNet"]}, "class MyUNet"),
        ("model_index.json", {"vae": ["diffusers", "AutoencoderTiny"]}, "class AutoencoderTiny"),
        ("unet/config.json", {"in_channels": 9}, "9 input channels"),
        ("unet/config.json", {"in_channels": 8}, "8 input channels"),
        ("unet/config.json", {"time_cond_proj_dim": 256}, "LCM"),
        ("unet/config.json", {"class_embed_type": "projection"}, "class_embed_type"),
        ("unet/config.json", {"mid_block_type": None}, "mid_block_type"),
        ("unet/config.json", {"encoder_hid_dim": 10**9}, "encoder_hid_dim"),
        ("unet/config.json", {"transformer_layers_per_block": [[1, 1], 1, 1, 1]}, "transformer_layers_per_block"),
        ("unet/config.json", {"transformer_layers_per_block": 10**6}, "transformer_layers_per_block"),
        ("unet/config.json", {"layers_per_block": 10**6}, "layers_per_block"),
        ("unet/config.json", {"block_out_channels": [10**9] * 4}, "block_out_channels"),
        ("unet/config.json", {"down_block_types": ["DownBlock2D"] * 10**4}, "down_block_types"),
        ("unet/config.json", {"down_block_types": ["os.system"]}, "down_block_types"),
        ("unet/config.json", {"attention_head_dim": -1}, "attention_head_dim"),
        ("unet/config.json", {"attention_head_dim": 1e999}, "Infinity"),
        ("unet/config.json", {"cross_attention_dim": 1024}, "do not belong together"),
        ("unet/config.json", {"sample_size": 10**6}, "sample_size"),
        ("unet/config.json", {"act_fn": "gelu"}, "act_fn"),
        ("unet/config.json", {"addition_embed_type": "text_time"}, "SDXL, but other text encoders"),
        ("vae/config.json", {"latents_mean": [0.1] * 4}, "latents_mean"),
        ("vae/config.json", {"shift_factor": 0.1}, "shift_factor"),
        ("vae/config.json", {"latent_channels": 16}, "latent_channels"),
        ("vae/config.json", {"scaling_factor": -1}, "scaling_factor"),
        ("vae/config.json", {"block_out_channels": [10**8]}, "DownEncoderBlock2D|block_out_channels"),
        ("text_encoder/config.json", {"num_hidden_layers": 1000000}, "num_hidden_layers"),
        ("text_encoder/config.json", {"vocab_size": 10**12}, "vocab_size"),
        ("text_encoder/config.json", {"hidden_size": 128}, r"weights have \(64\)"),
        ("text_encoder/config.json", {"num_attention_heads": 7}, "num_attention_heads"),
        ("text_encoder/config.json", {"hidden_act": "os.system"}, "hidden_act"),
        ("text_encoder/config.json", {"layer_norm_eps": "1"}, "layer_norm_eps"),
        ("text_encoder/config.json", {"model_type": "t5"}, "not a CLIP"),
        ("scheduler/scheduler_config.json", {"_class_name": "EDMDPMSolverMultistepScheduler"}, "EDM"),
        ("scheduler/scheduler_config.json", {"_class_name": "FlowMatchEulerDiscreteScheduler"}, "FlowMatch"),
        ("scheduler/scheduler_config.json", {"_class_name": "os"}, "noise schedule of os"),
        ("scheduler/scheduler_config.json", {"prediction_type": "sample"}, "predicts 'sample'"),
        ("scheduler/scheduler_config.json", {"prediction_type": "flow_prediction"}, "flow_prediction"),
        ("scheduler/scheduler_config.json", {"use_flow_sigmas": True}, "use_flow_sigmas"),
        ("scheduler/scheduler_config.json", {"trained_betas": [0.001] * 1000}, "trained_betas"),
        ("scheduler/scheduler_config.json", {"beta_schedule": "squaredcos_cap_v2"}, "squaredcos_cap_v2"),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": 200_000_000}, "num_train_timesteps"),
        ("scheduler/scheduler_config.json", {"beta_start": -0.1}, "beta_start"),
        ("scheduler/scheduler_config.json", {"beta_start": True}, "beta_start"),
        ("scheduler/scheduler_config.json", {"beta_start": 0.02}, "beta_start"),
        ("scheduler/scheduler_config.json", {"rescale_betas_zero_snr": "yes"}, "rescale_betas_zero_snr"),
    ],
)
def test_a_foreign_setting_is_refused(folder, file, values, words):
    change(folder, file, **values)
    refused(folder, words)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"a": 1, "a": 2}', '{"x": "' + "y" * 2**20 + '"}'])
@pytest.mark.parametrize("file", ["model_index.json", "unet/config.json", "scheduler/scheduler_config.json"])
def test_a_broken_configuration_is_refused(folder, file, text):
    put(folder, file, text)
    refused(folder, file)


def test_code_that_a_folder_names_never_runs(original, folder, tmp_path):
    marker = tmp_path / "ran"
    code = f"open({str(marker)!r}, 'w').close()\nclass Own: pass\n"
    custom = {"auto_map": {"AutoModel": "own.Own", "AutoTokenizer": ["own.Own", None]}, "trust_remote_code": True}
    for part in ("unet", "vae", "text_encoder", "tokenizer", "scheduler"):
        put(folder, f"{part}/own.py", code)
        name = {"tokenizer": "tokenizer_config", "scheduler": "scheduler_config"}.get(part, "config")
        change(folder, f"{part}/{name}.json", **custom, _class_name_of_code="own.Own")
    put(folder, "pipeline.py", code)
    assert same(folder, original[1]) and not marker.exists()


def test_the_refiner_is_refused(folder):
    (folder / "text_encoder").rename(folder / "text_encoder_2")
    put(folder, "model_index.json", {"_class_name": "StableDiffusionXLImg2ImgPipeline", "text_encoder": [None, None]})
    refused(folder, "refiner")


# Schedules


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"beta_schedule": "linear"},
        {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02},
        {"beta_start": 0.0015, "beta_end": 0.0195, "num_train_timesteps": 500},
        {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "timestep_spacing": "trailing"},
        {"_class_name": "PNDMScheduler", "skip_prk_steps": True, "set_alpha_to_one": False, "steps_offset": 1},
    ],
)
def test_a_supported_schedule_is_read_exactly(folder, values):
    import diffusers

    put(folder, "scheduler/scheduler_config.json", SCHEDULE | values)
    facts, _, _ = Folder(folder).facts("")
    cls = getattr(diffusers, values.get("_class_name", "DDIMScheduler"))
    alphas = cls.from_config(SCHEDULE | values).alphas_cumprod.double()
    wanted = ((1 - alphas) / alphas).sqrt().float()
    assert torch.allclose(facts.sigmas()[:-1], wanted[:-1], rtol=2e-3)
    assert facts.prediction_type == values.get("prediction_type", "epsilon") and not facts.notes


def test_what_a_scheduler_leaves_out_is_its_classes_default(folder):
    put(folder, "scheduler/scheduler_config.json", {"_class_name": "DDPMScheduler"})
    betas = Folder(folder).facts("")[0].betas
    assert (betas.start, betas.end, betas.count, betas.kind) == (0.0001, 0.02, 1000, "linear")
    put(folder, "scheduler/scheduler_config.json", {"_class_name": "LCMScheduler"})
    facts = Folder(folder).facts("")[0]
    assert (facts.betas.start, facts.betas.end, facts.betas.kind) == (0.00085, 0.012, "scaled_linear")
    assert "distilled to a few steps" in facts.notes[0]


# Tokenizers


def test_both_forms_of_a_tokenizer_are_the_same(original, folder):
    whole = json.loads((folder / "tokenizer" / "tokenizer.json").read_text("utf-8"))
    prompts = ["a photo of a cat", "Käse-Igel 梨 🙂 don't", ""]
    wanted = networks.load(folder, torch.float32).encoders[0].tokens(prompts)
    assert torch.equal(wanted, original[1].encoders[0].tokens(prompts))
    put(folder, "tokenizer/vocab.json", whole["model"]["vocab"])
    put(folder, "tokenizer/merges.txt", "#version: 0.2\n" + "\n".join(map(" ".join, whole["model"]["merges"])))
    (folder / "tokenizer" / "tokenizer.json").unlink()
    assert torch.equal(networks.load(folder, torch.float32).encoders[0].tokens(prompts), wanted)


@pytest.mark.parametrize(
    "values, words",
    [
        ({"vocab": {"a": 0, "b": 0}}, "one number"),
        ({"vocab": {"a": 10**12}}, "too long or have no number"),
        ({"vocab": {"a": 5}}, "numbered from 0"),
        ({"vocab": {"a": 0}}, "added tokens are not numbered on"),
        ({"vocab": {"a" * 1000: 0}}, "too long"),
        ({"vocab": ["a"]}, "not a table"),
        ({"merges": [["a", "b", "c"]]}, "not pairs"),
        ({"merges": ["a\u2028b c"]}, "not pairs"),
        ({"merges": 3}, "no list of merges"),
        ({"merges": [["not", "there"]]}, "damaged"),
        ({"type": "WordPiece"}, "not one of CLIP's kind"),
    ],
)
def test_a_broken_tokenizer_is_refused(folder, values, words):
    file = folder / "tokenizer" / "tokenizer.json"
    whole = json.loads(file.read_text("utf-8"))
    whole["model"] |= values
    put(folder, "tokenizer/tokenizer.json", whole)
    refused(folder, words)


def test_a_tokenizer_of_any_other_text_is_refused(folder):
    for text in ("", "{", "[]", "[" * 10**5, "x" * 100):
        put(folder, "tokenizer/tokenizer.json", text)
        refused(folder, "tokenizer")
    (folder / "tokenizer" / "tokenizer.json").unlink()
    refused(folder, "No such file or directory: tokenizer.json")
