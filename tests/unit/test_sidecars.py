"""What lies beside a checkpoint: yaml, tokenizer and word list, as an author or a stranger may have written them."""

import json
import shutil
import time

import pytest
import torch

from unlearn_core.demo.recognition import CHECKPOINT
from unlearn_core.errors import BadCheckpoint, BadSetting
from unlearn_core.standalone import networks
from unlearn_core.standalone.checkpoint import open_checkpoint
from unlearn_core.standalone.sidecar import read_yaml
from unlearn_core.words.word_list import WordList

LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join(f'*{a}' for _ in range(9))}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The demo model's file and its tokenizer, without a yaml."""
    folder = tmp_path_factory.mktemp("demo")
    shutil.copyfile(CHECKPOINT, folder / "a.safetensors")
    shutil.copytree(CHECKPOINT.parent / "tokenizer", folder / "tokenizer")
    return folder


def beside(whole, params, text=None):
    """The demo's yaml with other values of `model.params`."""
    import yaml

    data = yaml.safe_load(CHECKPOINT.with_suffix(".yaml").read_text("utf-8"))
    data["model"]["params"] |= params
    (whole / "a.yaml").write_text(yaml.safe_dump(data) if text is None else text, "utf-8")
    return whole / "a.safetensors"


def refused(load, words):
    start = time.process_time()
    with pytest.raises((BadCheckpoint, BadSetting), match=words) as caught:
        load()
    message = str(caught.value)
    assert time.process_time() - start < 10
    assert message.isprintable() and len(message) < 500 and message.endswith((".", ")"))


@pytest.mark.parametrize(
    "params, words",
    [
        ({"timesteps": 200_000_000}, "timesteps: 200000000, which is not a whole number from 10 to 10000"),
        ({"timesteps": -1}, "timesteps"),
        ({"timesteps": "1000"}, "timesteps"),
        ({"timesteps": 1000.5}, "timesteps"),
        ({"linear_start": float("nan")}, "linear_start"),
        ({"linear_start": float("inf")}, "linear_start"),
        ({"linear_start": -0.1}, "linear_start"),
        ({"linear_start": True}, "linear_start"),
        ({"linear_end": 1e300}, "linear_end"),
        ({"linear_start": 0.3}, "below linear_end"),
        ({"beta_schedule": "cosine"}, "beta_schedule"),
        ({"given_betas": [0.1]}, "given_betas"),
        ({"scale_factor": 0}, "scale_factor"),
        ({"scale_factor": [1]}, "scale_factor"),
        ({"image_size": 10**6}, "image_size"),
        ({"image_size": -16}, "image_size"),
        ({"parameterization": "x0"}, "'x0' is not a kind of prediction"),
        ({"parameterization": {"a": 1}}, "not a kind of prediction"),
        ({"unet_config": {"params": {"num_heads": 10**9}}}, "num_heads"),
        ({"unet_config": {"params": {"num_heads": 7}}}, "cannot have"),
        ({"unet_config": {"params": {"num_heads": 4, "context_dim": 768}}}, "of another model"),
        ({"unet_config": {"params": {"num_heads": 4, "in_channels": 9}}}, "of another model"),
        ({"unet_config": {"params": []}}, "not a table"),
        ({"unet_config": "x"}, "unet_config"),
        ({"cond_stage_config": [1]}, "cond_stage_config"),
        ({"cond_stage_config": {"params": {"version": 3}}}, "version"),
    ],
)
def test_a_number_out_of_bounds_is_refused(whole, params, words):
    file = beside(whole, params)
    refused(lambda: networks.load(file, torch.float32), words)


@pytest.mark.parametrize(
    "text, words",
    [
        (LAUGHS, "aliases"),
        ("model: &a {params: *a}", "aliases"),
        ("[" * 5000, "nested deeper|not a model configuration"),
        ("model: {params: " + "{a: " * 100 + "1" + "}" * 102, "nested deeper"),
        ("a: " + "1:" * 100_000 + "1", "more than 1000 characters"),
        ("a: 1\n" * 50_000, "entries"),
        ("#" * 300_000, "larger than 256 kB"),
        ("model: 3", "not a model configuration"),
        ("", "not a model configuration"),
        ("\x00", "not a model configuration"),
        ("model: !!python/object/apply:os.system [id]", "not a model configuration"),
        ("model: {params: 2026-99-99}", "not a model configuration"),
        ("a: \x1b[2J", "not a model configuration"),
    ],
)
def test_a_hostile_yaml_is_refused(whole, text, words):
    file = beside(whole, {}, text)
    refused(lambda: open_checkpoint(file), words)


def test_a_yaml_with_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfmodel: {params: {timesteps: 10}}")
    assert read_yaml(tmp_path / "a.yaml") == {"timesteps": 10}


@pytest.mark.parametrize("version", ["../tokenizer", "/etc", "openai/clip-vit-large-patch14", "C:\\x", "a" * 999])
def test_no_tokenizer_outside_the_checkpoints_folder_is_read(whole, version):
    file = beside(whole, {"cond_stage_config": {"params": {"version": version}}})
    refused(lambda: networks.load(file, torch.float32), "tokenizer's folder that belongs beside it is missing")


def test_a_tokenizer_in_the_checkpoints_folder_may_be_named_by_its_full_path(whole):
    """As web UIs need it, which take a plain name from the folder that they run in."""
    file = beside(whole, {"cond_stage_config": {"params": {"version": str(whole / "tokenizer")}}})
    (encoder,) = networks.load(file, torch.float32).encoders
    assert len(encoder.tokenizer) == encoder.model.config.vocab_size


@pytest.mark.parametrize(
    "values, words",
    [
        ({"num_hidden_layers": 1000000}, "num_hidden_layers: 1000000"),
        ({"num_attention_heads": 0}, "num_attention_heads"),
        ({"vocab_size": 10**9}, "vocab_size"),
        ({"hidden_size": 64}, "hidden_size: 64, which is not what the weights have"),
        ({"eos_token_id": 10**9}, "eos_token_id"),
        ({"hidden_act": "relu"}, "hidden_act"),
    ],
)
def test_a_tokenizers_configuration_may_not_contradict_the_weights(whole, tmp_path, values, words):
    folder = shutil.copytree(whole, tmp_path / "x")
    config = folder / "tokenizer" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text("utf-8")) | values), "utf-8")
    file = beside(folder, {})
    refused(lambda: networks.load(file, torch.float32), words)


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt", "config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"[1]", b'{"a": 1, "a": 1}', b"[" * 10**5])
def test_broken_files_of_a_tokenizer_are_refused(whole, tmp_path, name, data):
    folder = shutil.copytree(whole, tmp_path / "x")
    (folder / "tokenizer" / name).write_bytes(data)
    file = beside(folder, {})
    try:
        networks.load(file, torch.float32)
    except BadCheckpoint as e:
        assert "tokenizer" in str(e) and str(e).isprintable() and len(str(e)) < 500
    else:
        assert (name, data) == ("merges.txt", b"")  # a tokenizer of single letters


# Word lists


def words(**changes):
    lists = {
        "objects": {"fruit": ["apple"], "": ["car"]},
        "styles": ["ink"],
        "templates": ["{an o} in {s} style"],
        "object_templates": ["{an o}"],
        "style_templates": ["{s} style"],
        "suffixes": [""],
    }
    return json.dumps({k: v for k, v in (lists | changes).items() if v is not None})


@pytest.mark.parametrize(
    "text, said",
    [
        *((words(**{name: None}), f"'{name}'") for name in json.loads(words())),
        *((words(**{name: []}), f"'{name}' needs from 1") for name in ("templates", "object_templates", "suffixes")),
        (words(objects={"fruit": "apple"}), "objects: fruit"),
        (words(objects=["apple"]), "no table 'objects'"),
        (words(styles=[1]), "'styles'"),
        (words(styles=["a\u202eb"]), "readable"),
        (words(styles=["x" * 121]), "at most 120"),
        *((words(objects={"": [w, "cat"]}), "is no word") for w in ("", "  ", "-", "...", "{s}", "{cat}", "+", "—")),
        *((words(**values), "' ' is no word") for values in ({"styles": [" "]}, {"objects": {" ": ["cat"]}})),
        (words(styles=[str(i) for i in range(2001)]), "more than 2000 words"),
        (words(templates=["{o.__class__} {s}"]), r"\{o\} and \{s\}"),
        (words(templates=["{o:>1000000000} {s}"]), r"\{o\} and \{s\}"),
        (words(templates=["{an o}"]), r"\{o\} and \{s\}"),
        (words(object_templates=["{o} {s}"]), r"has to have \{o\}"),
        (words(suffixes=[" {o}"]), "no slots"),
        ("[]", "no table"),
        ("[" * 100_000, "nested too deep"),
        ("{", "not JSON"),
        (words() + " " * 300_000, "larger than 256 kB"),
    ],
)
def test_a_word_list_that_is_none_is_refused(tmp_path, text, said):
    file = tmp_path / "a.words.json"
    file.write_text(text, "utf-8")
    refused(lambda: WordList.load(file), said)


def test_words_of_all_scripts_and_signs_that_are_drawn_are_read(tmp_path):
    found = ["🍌", "香蕉", "केला", "☕", "100 %", "7", "X", "rock 'n' roll", "É"]
    (tmp_path / "a.words.json").write_text(words(objects={"": found}), "utf-8")
    assert WordList.load(tmp_path / "a.words.json").all_objects == tuple(found)


def test_a_word_list_with_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "a.words.json").write_bytes(b"\xef\xbb\xbf" + words().encode())
    assert WordList.load(tmp_path / "a.words.json").all_objects == ("apple", "car")
    (tmp_path / "a.words.json").write_bytes(b"\xff")
    refused(lambda: WordList.load(tmp_path / "a.words.json"), "UTF-8")
    refused(lambda: WordList.load(tmp_path / "none.json"), "No such file")
