"""A stack written into a copy of a checkpoint: the same numbers as applying it, everything else byte for byte."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.small import stack_of
from unlearn_core.delta.bake import NOTE, bake, raw_header
from unlearn_core.delta.companions import companions
from unlearn_core.delta.format import Delta, DeltaInfo, Factor, save
from unlearn_core.delta.paths import tokenizer_folder
from unlearn_core.delta.stack import Stack
from unlearn_core.demo.recognition import CHECKPOINT
from unlearn_core.errors import BadCheckpoint, BadDelta, BadSetting, UnlearnError
from unlearn_core.method.text_layers import is_target
from unlearn_core.sampling import noise
from unlearn_core.standalone.model import StandaloneModel


def a_delta(host, seed, concept, scale=0.02, layers="cross", **changes):
    """Random factors for real layers of the demo model."""
    g = torch.Generator().manual_seed(seed)
    written = {path: name for name, path in reversed(host.layers().items()) if is_target(path, layers)}
    factors = {}
    for path, name in written.items():
        out, width = host.backbone.get_submodule(path).weight.shape
        factors[name] = Factor(torch.randn(3, width, generator=g), scale * torch.randn(out, 3, generator=g), 2.0)
    facts = {"architecture": "sd1", "prediction_type": "epsilon", "base_fingerprint": host.fingerprint, **changes}
    return Delta(factors, DeltaInfo(concept=concept, kind="object", anchor="", **facts), concept)


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """The demo checkpoint in float32 with an author's text, its side files beside it, and the model."""
    folder = tmp_path_factory.mktemp("full")
    weights = {k: v.float() for k, v in load_file(CHECKPOINT).items()}
    save_file(weights, folder / "full.safetensors", {"format": "pt", "author": "Zoë", "title": "x"})
    for name in ("full", "baked"):
        shutil.copy(CHECKPOINT.with_suffix(".yaml"), folder / f"{name}.yaml")
    shutil.copytree(CHECKPOINT.with_name("tokenizer"), folder / "tokenizer")
    return folder / "full.safetensors"


@pytest.fixture(scope="module")
def host(full):
    return StandaloneModel(full)


@pytest.fixture(scope="module")
def stack(host):
    return stack_of((a_delta(host, 1, "banana"), 1.0), (a_delta(host, 2, "frog", layers="kv"), -0.5))


@torch.no_grad()
def predicted(host, stack):
    x = noise((2, *host.latent_shape), 3, host.device)
    with host.session(stack):
        return host.denoise(x, host.sigmas[[200, 800]], host.encode(["a banana in ink style", "a frog"]))


def test_baked_checkpoint_draws_as_the_applied_stack(full, host, stack):
    out = full.with_name("baked.safetensors")
    done = bake(stack, full, out)
    assert done.concepts == ("banana", "frog at strength -0.5") and done.bytes == out.stat().st_size
    assert done.layers == len(stack.entries[0].delta.factors)
    baked = StandaloneModel(out)
    wanted = predicted(host, stack)
    assert torch.allclose(predicted(baked, Stack()), wanted, atol=1e-5)
    assert not torch.allclose(predicted(host, Stack()), wanted, atol=1e-3)


def test_everything_else_stays_byte_for_byte(full, stack):
    out = full.with_name("baked.safetensors")
    bake(stack, full, out)
    before, after = load_file(full), load_file(out)
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    assert before.keys() == after.keys() and all(before[k].dtype == after[k].dtype for k in before)
    assert len(changed) == len(stack.entries[0].delta.factors) and all(".attn2." in k for k in changed)
    with safe_open(out, "pt") as file:
        texts = file.metadata()
    assert (texts["author"], texts["title"], texts["format"]) == ("Zoë", "x", "pt")
    assert [(r["concepts"], r["strength"]) for r in json.loads(texts[NOTE])] == [(["banana"], 1.0), (["frog"], -0.5)]
    assert raw_header(full)[0].keys() == raw_header(out)[0].keys()


def test_half_precision_is_rounded_once(host, stack, tmp_path):
    out = tmp_path / "half.safetensors"
    bake(stack, CHECKPOINT, out)
    name = "model.diffusion_model.input_blocks.3.1.transformer_blocks.0.attn2.to_k.weight"
    before, after = load_file(CHECKPOINT)[name], load_file(out)[name]
    path = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
    layers = host.layers()
    total = before.float()
    for entry in stack:
        total = total + sum(entry.strength * f.matrix() for n, f in entry.delta.factors.items() if layers[n] == path)
    assert after.dtype == torch.float16 and torch.equal(after, total.half())


def test_a_baked_checkpoint_is_another_base(full, host, stack):
    out = full.with_name("baked.safetensors")
    bake(stack, full, out)
    with pytest.raises(BadDelta, match="base"):
        bake(stack, out, full.with_name("twice.safetensors"))
    assert not full.with_name("twice.safetensors").exists()


def test_a_delta_of_the_float16_file_is_baked_into_the_bfloat16_one(host, full, tmp_path):
    for name, dtype, scale in (("same", torch.bfloat16, 1.0), ("other", torch.bfloat16, 1.02)):
        whole = {k: (v * scale).to(dtype) if v.is_floating_point() else v for k, v in load_file(full).items()}
        save_file(whole, tmp_path / f"{name}.safetensors")
    made = stack_of((a_delta(host, 1, "banana", base_sample=host.base_sample.text()), 1.0))
    assert bake(made, tmp_path / "same.safetensors", tmp_path / "out.safetensors").layers
    with pytest.raises(BadDelta, match="was made for"):
        bake(made, tmp_path / "other.safetensors", tmp_path / "none.safetensors")


def test_wrong_deltas_leave_nothing_behind(full, host, tmp_path):
    out = tmp_path / "o.safetensors"
    foreign = a_delta(host, 3, "dog", base_fingerprint="0" * 16)
    with pytest.raises(BadDelta, match="base"):
        bake(stack_of((foreign, 1.0)), full, out)
    good = a_delta(host, 3, "dog")
    narrow = {n: Factor(f.down[:, :-1], f.up, 1.0) for n, f in good.factors.items()}
    with pytest.raises(BadDelta, match="size"):
        bake(stack_of((Delta(narrow, good.info), 1.0)), full, out)
    with pytest.raises(BadDelta, match="layers of"):
        more = good.factors | {"lora_unet_x": Factor(torch.ones(1, 1), torch.ones(1, 1), 1.0)}
        bake(stack_of((Delta(more, good.info), 1.0)), full, out)
    with pytest.raises(BadSetting, match="nothing to bake"):
        bake(stack_of((good, 0.0)), full, out)
    huge = Delta({n: Factor(f.down, f.up * 1e8, 1.0) for n, f in good.factors.items()}, good.info)
    with pytest.raises(UnlearnError, match="far more"):
        bake(stack_of((huge, 1.0)), CHECKPOINT, out)
    assert list(tmp_path.iterdir()) == []


def test_wrong_files_are_refused(stack, full, tmp_path):
    (tmp_path / "cut.safetensors").write_bytes(CHECKPOINT.read_bytes()[:-100])
    (tmp_path / "garbage.safetensors").write_bytes(b"\xff" * 64)
    (tmp_path / "pickle.ckpt").write_bytes(b"x")
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    for name in ("cut.safetensors", "garbage.safetensors", "pickle.ckpt", "missing.safetensors"):
        with pytest.raises(BadCheckpoint):
            bake(stack, tmp_path / name, tmp_path / "o.safetensors")
    with pytest.raises(UnlearnError):
        bake(stack, tmp_path / "other.safetensors", tmp_path / "o.safetensors")
    for out in (full, full.parent / "." / full.name):
        with pytest.raises(BadSetting, match="never overwritten"):
            bake(stack, full, out)
    with pytest.raises(BadSetting, match="rename"):
        bake(stack, full, tmp_path / "o.ckpt")
    assert not (tmp_path / "o.safetensors").exists()


def test_a_file_with_hostile_notes_is_baked(stack, tmp_path):
    source = tmp_path / "in.safetensors"
    save_file(load_file(CHECKPOINT), source, {NOTE: "[" * 5000})
    bake(stack, source, tmp_path / "out.safetensors")
    with safe_open(tmp_path / "out.safetensors", "pt") as file:
        assert len(json.loads(file.metadata()[NOTE])) == 2


def test_types_that_cannot_hold_a_sum_are_refused(stack, tmp_path):
    weights = load_file(CHECKPOINT)
    eight = {k: v.to(torch.float8_e4m3fn) if "attn2.to_out" in k else v for k, v in weights.items()}
    save_file(eight, tmp_path / "eight.safetensors")
    with pytest.raises(BadCheckpoint, match="F8"):
        bake(stack, tmp_path / "eight.safetensors", tmp_path / "o.safetensors")


def test_command_line_bakes(host, stack, full, tmp_path, capsys):
    from unlearn_core.cli.main import main

    files = []
    for entry in stack:
        files.append(str(tmp_path / f"{entry.delta.name}.safetensors"))
        save(entry.delta, files[-1])
    out = tmp_path / "new.safetensors"
    assert main(["stack", files[0], f"{files[1]}:-0.5", "--into", str(full), "--out", str(out)]) == 0
    assert "banana, frog" in capsys.readouterr().out
    shutil.copy(out, full.with_name("baked.safetensors"))
    baked = StandaloneModel(full.with_name("baked.safetensors"))
    assert torch.allclose(predicted(baked, Stack()), predicted(host, stack), atol=1e-5)
    assert main(["stack", files[0], "--into", str(full), "--out", str(full)]) == 1
    assert "would overwrite the checkpoint" in capsys.readouterr().err


def test_a_copy_in_the_same_folder_keeps_the_tokenizer_however_it_is_written(tmp_path, monkeypatch):
    (tmp_path / "m.yaml").write_text("version: words")
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "vocab.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    found = companions(Path("m.safetensors"), tmp_path / "new.safetensors")
    assert [c.target.name for c in found] == ["new.yaml"]
    found = companions(Path("m.safetensors"), tmp_path / "other" / "new.safetensors")
    assert [c.target.name for c in found] == ["new.yaml", "words"]


FULL = [
    "    version: {}\n",
    "    version: {}  # its tokenizer\r\n    other: 1\r\n",
    "    'version': '{}'\n",
    "version: laion\nmodel: {{params: {{version: {}, other: 1}}}}\n",
    '    version: "{}"\n    other: "\u00e9"\n',
]


FOLDERS = ["models", "my own, \u00e0", "it's"]


# between brackets a comma ends what is not quoted
@pytest.mark.parametrize("written, folder", [(w, f) for w in FULL for f in FOLDERS if not ("{{" in w and "," in f)])
def test_a_tokenizer_that_is_named_by_its_full_path_comes_with_the_copy(written, folder, tmp_path):
    """Web UIs take a plain name from the folder that they run in, so for them the yaml has a full path."""
    home, out = tmp_path / folder, tmp_path / "it's new" / "copy.safetensors"
    (home / "words").mkdir(parents=True)
    (home / "words" / "vocab.json").write_text("{}")
    full = str(home / "words")
    text = written.format(full.replace("'", "''") if "'" in written else full)
    assert full in values(yaml.safe_load(text))
    (home / "m.yaml").write_bytes(text.encode())
    assert tokenizer_folder(home / "m.safetensors") == home / "words"
    found = companions(home / "m.safetensors", out)
    assert [c.target.name for c in found] == ["copy.yaml", "words"]
    for companion in found:
        companion.target.parent.mkdir(exist_ok=True)
        companion.put()
    moved = yaml.safe_load((out.parent / "copy.yaml").read_bytes())
    assert str(out.parent / "words") in values(moved) and str(home / "words") not in values(moved)
    assert len(values(moved)) == len(values(yaml.safe_load(text))), "all else stays"
    assert tokenizer_folder(out) == out.parent / "words" and companions(home / "m.safetensors", out) == []


def values(tree):
    """All that a yaml says."""
    return [v for part in tree.values() for v in values(part)] if isinstance(tree, dict) else [tree]


@pytest.mark.parametrize("version", ["../words", "/words", "sub/words", "w.rds", "words/../../words"])
def test_a_tokenizer_elsewhere_is_none_of_the_checkpoints(version, tmp_path):
    for folder in ("words", "in/words", "in/sub/words", "in/w.rds"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / "in" / "m.yaml").write_text(f"version: {version}")
    assert tokenizer_folder(tmp_path / "in" / "m.safetensors") is None
