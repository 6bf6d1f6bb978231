"""The delta file: what comes back, what is refused, and that writing is all or nothing."""

import dataclasses
import errno
import hashlib
import json
import math
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from unlearn_core import delta as delta_file
from unlearn_core.delta import Delta, DeltaInfo, Factor, Parent, contained, load, safe_file_name, save
from unlearn_core.interfaces import BadDelta, BadSetting, UnlearnError

ROOT = Path(__file__).resolve().parents[1]
LAYER = "lora_unet_input_blocks_1_1_transformer_blocks_0_attn2_to_k"


def an_info(**changes) -> DeltaInfo:
    values = {
        "concept": "banana",
        "kind": "object",
        "anchor": "Obst",
        "architecture": "sd1",
        "prediction_type": "epsilon",
        "base_fingerprint": "0123456789abcdef",
        "parents": (Parent("frosch-grün", "ab" * 32, 0.5, "frog"),),
        "config": {"rank": 3, "keep": ["apple", "梨"], "learning_rate": 1e-3, "checkpointing": False},
        "prompts": (("a banana on a table", "a fruit on a table"), ("banana", "fruit")),
        "judge": {"forgotten_after": 0.01, "worst_neighbour": "lemon"},
        "steps": 12,
        "stopped": "stopped at step 12",
        "merged": (Parent("x", "cd" * 32, 1.0, "cat"),),
    }
    return DeltaInfo(**{**values, **changes})


def a_delta(seed: int = 0, rank: int = 3, alpha: float = 1.5, **changes) -> Delta:
    g = torch.Generator().manual_seed(seed)
    names = (LAYER, LAYER.replace("to_k", "to_v"), "lora_unet_a.b")
    factors = {n: Factor(torch.randn(rank, 8, generator=g), torch.randn(6, rank, generator=g), alpha) for n in names}
    return Delta(factors, an_info(**changes)).rounded()


def test_round_trip(tmp_path):
    delta = a_delta()
    digest = save(delta, tmp_path / "new folder" / "Grün und 赤.safetensors")
    file = tmp_path / "new folder" / "Grün und 赤.safetensors"
    back = load(file)
    assert digest == hashlib.sha256(file.read_bytes()).hexdigest()
    assert back.info == delta.info
    assert back.name == "Grün und 赤"
    assert back.content_hash() == delta.content_hash()
    assert list(back.factors) == list(delta.factors) == sorted(delta.factors)
    for name, factor in delta.factors.items():
        assert torch.equal(back.factors[name].matrix(), factor.matrix())
    assert os.listdir(file.parent) == [file.name]


def test_float32_keeps_what_float16_cannot(tmp_path):
    factors = {LAYER: Factor(torch.tensor([[1 / 3]]), torch.tensor([[1.0]]), 0.1)}
    delta = Delta(factors, an_info())
    with pytest.raises(ValueError, match="rounded"):
        save(delta, tmp_path / "a.safetensors")
    save(delta, tmp_path / "a.safetensors", torch.float32)
    back = load(tmp_path / "a.safetensors")
    assert torch.equal(back.factors[LAYER].matrix(), delta.factors[LAYER].matrix())
    assert back.content_hash() == delta.content_hash() != delta.rounded().content_hash()


def test_training_tensors_can_be_saved(tmp_path):
    down = torch.nn.Parameter(torch.randn(8, 2).half().float()).T
    up = torch.randn(4, 6, requires_grad=True).half().float()[:, :2]
    save(Delta({LAYER: Factor(down, up, 2.0)}, an_info()), tmp_path / "a.safetensors")
    assert torch.equal(load(tmp_path / "a.safetensors").factors[LAYER].down, down)


def test_saving_over_a_loaded_file_leaves_the_loaded_delta_alone(tmp_path):
    save(a_delta(0), tmp_path / "a.safetensors")
    back = load(tmp_path / "a.safetensors")
    before = back.content_hash()
    (tmp_path / "a.safetensors").write_bytes(bytes(10_000))
    assert back.content_hash() == before


def test_hash_is_of_the_content_alone():
    delta = a_delta()
    same = Delta(dict(reversed(delta.factors.items())), an_info(concept="frog"), "other name")
    assert same.content_hash() == delta.content_hash()
    name, factor = next(iter(delta.factors.items()))
    for changed in (
        Factor(factor.down, factor.up, factor.alpha * 2),
        Factor(factor.down + 1, factor.up, factor.alpha),
        Factor(factor.down, -factor.up, factor.alpha),
    ):
        assert Delta({**delta.factors, name: changed}, delta.info).content_hash() != delta.content_hash()


def test_norm_is_that_of_the_full_matrices():
    delta = a_delta()
    direct = math.sqrt(sum(f.matrix().double().square().sum().item() for f in delta.factors.values()))
    assert delta.norm() == pytest.approx(direct, rel=1e-6)
    hand = Delta({LAYER: Factor(torch.tensor([[3.0, 4.0]]), torch.tensor([[2.0], [0.0]]), 0.5)}, an_info())
    assert hand.norm() == pytest.approx(5.0)
    assert hand.factors[LAYER].matrix().tolist() == [[3.0, 4.0], [0.0, 0.0]]


@pytest.mark.parametrize(
    "value, words",
    [(0.0, "change nothing"), (math.nan, "not finite"), (math.inf, "not finite"), (1e5, "not finite")],
)
def test_a_delta_without_effect_is_never_written(tmp_path, value, words):
    delta = Delta({LAYER: Factor(torch.full((1, 2), value), torch.ones(2, 1), 1.0)}, an_info())
    with pytest.raises(BadDelta, match=words):
        save(delta.rounded(), tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def test_no_layers_is_no_effect():
    with pytest.raises(BadDelta, match="change nothing"):
        Delta({}, an_info()).check_effect()


WRITE = """
import sys
sys.path[:0] = sys.argv[2:]
from test_delta import a_delta
from unlearn_core.delta import save
print(save(a_delta(), sys.argv[1]))
"""


def test_same_delta_same_bytes_in_another_process(tmp_path):
    digests = {save(a_delta(), tmp_path / f"{i}.safetensors") for i in range(5)}
    command = [sys.executable, "-c", WRITE, str(tmp_path / "z.safetensors"), str(ROOT), str(ROOT / "tests")]
    digests.add(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())
    assert len(digests) == 1


def test_header_is_sorted_aligned_and_readable_by_any_reader(tmp_path):
    save(a_delta(), tmp_path / "a.safetensors")
    data = (tmp_path / "a.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    text = data[8 : 8 + length].decode()
    assert length % 8 == 0 and text.startswith('{"')
    header = json.loads(text)
    assert list(header) == sorted(header)
    assert list(header["__metadata__"]) == sorted(header["__metadata__"])
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert set(file.keys()) == {f"{n}{part}" for n in a_delta().factors for part in delta_file.PARTS}
        assert all(isinstance(json.loads(v), object) for k, v in file.metadata().items() if k.startswith("unlearn."))


@pytest.mark.parametrize(
    "architecture, version, v2",
    [
        ("sd1", "sd_v1", "False"),
        ("sd2", "sd_v2", "True"),
        ("sdxl", "sdxl_base_v1-0", "False"),
        ("flux", "flux", "False"),
    ],
)
def test_web_uis_can_sort_the_file(tmp_path, architecture, version, v2):
    save(a_delta(architecture=architecture, concept="van Gogh: night"), tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        texts = {k: v for k, v in file.metadata().items() if k.startswith("ss_")}
    assert texts == {
        "ss_network_module": "networks.lora",
        "ss_network_dim": "3",
        "ss_network_alpha": "1.5",
        "ss_base_model_version": version,
        "ss_v2": v2,
        "ss_output_name": "van_Gogh_night",
    }


# Writing


def test_failed_write_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch):
    file = tmp_path / "a.safetensors"
    save(a_delta(0), file)
    before = file.read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(delta_file.os, "fsync", full)
    with pytest.raises(UnlearnError, match="disk .* is full"):
        save(a_delta(1), file)
    monkeypatch.undo()

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(delta_file.os, "replace", stopped)
    with pytest.raises(KeyboardInterrupt):
        save(a_delta(1), file)
    assert file.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.safetensors"]


def test_file_is_whole_before_it_has_its_name(tmp_path, monkeypatch):
    seen = []
    replace = os.replace

    def watch(source, target):
        seen.append((Path(source).parent, load_bytes(Path(source)), Path(target).exists()))
        replace(source, target)

    def load_bytes(path):
        return path.read_bytes()

    monkeypatch.setattr(delta_file.os, "replace", watch)
    save(a_delta(), tmp_path / "a.safetensors")
    assert seen == [(tmp_path, (tmp_path / "a.safetensors").read_bytes(), False)]


def test_unwritable_places_give_a_sentence(tmp_path):
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder.safetensors").mkdir()
    for place in ("file/a.safetensors", "folder.safetensors", "nul\0.safetensors", "x" * 300 + ".safetensors"):
        with pytest.raises(UnlearnError, match="cannot be written"):
            save(a_delta(), tmp_path / place)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.safetensors"]


@pytest.mark.parametrize("name", ["a.pt", "a.ckpt", "a", "a.safetensors.bin", ".safetensors"])
def test_only_safetensors_is_written(tmp_path, name):
    with pytest.raises(BadSetting, match="safetensors"):
        save(a_delta(), tmp_path / name)
    assert not list(tmp_path.iterdir())


# Hostile files: each case changes a good file in one way


def good() -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    delta = a_delta()
    tensors = {}
    for name, f in delta.factors.items():
        parts = (f.down, f.up, torch.tensor(f.alpha))
        tensors |= {name + part: t for part, t in zip(delta_file.PARTS, parts, strict=True)}
    return tensors, delta_file.metadata(delta)


DOWN, UP, ALPHA = (LAYER + part for part in delta_file.PARTS)
DEEP = "[" * 50_000 + "]" * 50_000


def drop(name):
    return lambda tensors, texts: tensors.pop(name)


def put(name, tensor):
    return lambda tensors, texts: tensors.update({name: tensor})


def text(name, value):
    return lambda tensors, texts: texts.update({"unlearn." + name: value})


def without(prefix):
    def change(tensors, texts):
        for key in [k for k in texts if k.startswith(prefix)]:
            del texts[key]

    return change


def renamed(name):
    def change(tensors, texts):
        for part in delta_file.PARTS:
            tensors[name + part] = tensors.pop(LAYER + part)

    return change


HOSTILE = {
    "ordinary LoRA": (without("unlearn."), "ordinary LoRA"),
    "no metadata": (without(""), "ordinary LoRA"),
    "future format": (text("format", "2"), "update this tool"),
    "format is no number": (text("format", "x" * 500), "update this tool"),
    "missing text": (without("unlearn.prompts"), "lacks 'unlearn.prompts'"),
    "no down": (drop(DOWN), "lora_down"),
    "no up": (drop(UP), "lora_up"),
    "no alpha": (drop(ALPHA), "alpha"),
    "foreign tensor": (put("lora_te_x.lora_mid.weight", torch.ones(1)), "lora_down"),
    "no tensors": (lambda tensors, texts: tensors.clear(), "'a.safetensors'"),
    "shapes do not multiply": (put(UP, torch.ones(6, 4)), "cannot be multiplied"),
    "rank 0": (lambda t, _: t.update({DOWN: torch.ones(0, 8), UP: torch.ones(6, 0)}), "cannot be multiplied"),
    "width 0": (put(DOWN, torch.ones(3, 0)), "cannot be multiplied"),
    "convolution": (put(DOWN, torch.ones(3, 8, 1, 1)), "cannot be multiplied"),
    "vector": (put(DOWN, torch.ones(3)), "cannot be multiplied"),
    "alpha nan": (put(ALPHA, torch.tensor(math.nan)), "not finite"),
    "alpha inf": (put(ALPHA, torch.tensor(math.inf)), "not finite"),
    "alpha huge": (put(ALPHA, torch.tensor(1e30)), "alpha"),
    "alpha is many": (put(ALPHA, torch.ones(2)), "not finite"),
    "nan": (put(DOWN, torch.full((3, 8), math.nan)), "not finite"),
    "inf": (put(UP, torch.full((6, 3), -math.inf)), "not finite"),
    "float64": (put(DOWN, torch.ones(3, 8, dtype=torch.float64)), "float16"),
    "integers": (put(UP, torch.ones(6, 3, dtype=torch.int64)), "float16"),
    "float8": (put(UP, torch.ones(6, 3).to(torch.float8_e4m3fn)), "float16"),
    "path in a key": (renamed("lora_unet_../../x"), "letters"),
    "line break in a key": (renamed("lora_unet_x\n"), "letters"),
    "class pollution": (renamed("lora_unet_x.__class__.__init__"), "letters"),
    "long key": (renamed("x" * 256), "letters"),
    "invalid JSON": (text("config", "{"), "metadata"),
    "deep JSON": (text("config", DEEP), "metadata"),
    "nested JSON": (text("judge", '{"a":' + "[" * 20 + "]" * 20 + "}"), "plain data"),
    "not a number": (text("judge", '{"a": NaN}'), "finite"),
    "infinite number": (text("judge", '{"a": 1e999}'), "finite"),
    "huge number": (text("judge", '{"a": ' + "9" * 100 + "}"), "plain data"),
    "control in a config": (text("config", '{"a": "\\u0000"}'), "readable"),
    "config is a list": (text("config", "[1]"), "table"),
    "concept is a number": (text("concept", "1"), "concept"),
    "concept is null": (text("concept", "null"), "concept"),
    "concept is empty": (text("concept", '""'), "name"),
    "concept too long": (text("concept", json.dumps("x" * 121)), "120"),
    "concept with NUL": (text("concept", '"a\\u0000"'), "readable"),
    "concept with line break": (text("concept", '"a\\r\\nb"'), "readable"),
    "concept with direction mark": (text("concept", '"a\\u202eb"'), "readable"),
    "concept is half a character": (text("concept", '"\\ud800"'), "readable"),
    "unknown kind": (text("kind", '"person"'), "kind"),
    "kind is a list": (text("kind", "[]"), "kind"),
    "steps is true": (text("steps", "true"), "steps"),
    "steps is negative": (text("steps", "-1"), "steps"),
    "steps is a float": (text("steps", "1.5"), "steps"),
    "prompts is a number": (text("prompts", "1"), "metadata"),
    "prompt without a pair": (text("prompts", '[["a"]]'), "metadata"),
    "prompt is a number": (text("prompts", '[["a", 1]]'), "prompt"),
    "prompt too long": (text("prompts", json.dumps([["a", "x" * 1001]])), "1000"),
    "too many prompts": (text("prompts", json.dumps([["a", "b"]] * 10_001)), "too long"),
    "parents is a number": (text("parents", "3"), "metadata"),
    "parent of strange fields": (text("parents", '[{"__class__": 1}]'), "metadata"),
    "parent of wrong hash": (text("parents", '[{"name":"a","sha256":"zz","strength":1,"concept":"b"}]'), "sha256"),
    "parent of no strength": (
        text("merged", json.dumps([{"name": "a", "sha256": "a" * 64, "strength": "1", "concept": "b"}])),
        "strength",
    ),
    "parent of infinite strength": (
        text("parents", '[{"name":"a","sha256":"' + "a" * 64 + '","strength":Infinity,"concept":"b"}]'),
        "strength",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_file_is_refused_with_a_sentence(tmp_path, case):
    change, words = HOSTILE[case]
    tensors, texts = good()
    change(tensors, texts)
    save_file(tensors, tmp_path / "a.safetensors", texts or None)
    refused(tmp_path / "a.safetensors", words)


def refused(path: Path, words: str) -> None:
    with pytest.raises(BadDelta, match=re.escape(words)) as caught:
        load(path)
    message = str(caught.value)
    assert message.isprintable() and len(message) < 400 and message.endswith((".", ")"))


def test_unchanged_file_is_not_refused(tmp_path):
    tensors, texts = good()
    save_file(tensors, tmp_path / "a.safetensors", texts)
    assert load(tmp_path / "a.safetensors").content_hash() == a_delta().content_hash()
    save_file({k: v.bfloat16() for k, v in tensors.items()}, tmp_path / "a.safetensors", texts)
    load(tmp_path / "a.safetensors")


@pytest.mark.parametrize("suffix", ["ckpt", "pt", "pth", "bin", "PT"])
def test_pickles_are_never_opened(tmp_path, suffix):
    save(a_delta(), tmp_path / "a.safetensors")
    refused((tmp_path / "a.safetensors").rename(tmp_path / f"a.{suffix}"), "pickle")


def test_files_that_are_no_safetensors(tmp_path):
    save(a_delta(), tmp_path / "good.safetensors")
    data = (tmp_path / "good.safetensors").read_bytes()
    file = tmp_path / "a.safetensors"
    refused(file, "no file")
    refused(tmp_path / "a.txt", "not a .safetensors file")
    for length in (0, 4, 8, 100, len(data) - 1):
        file.write_bytes(data[:length])
        refused(file, "damaged")
    for garbage in (b"\x80\x04garbage" * 50, b"<html>" * 100, bytes(64)):
        file.write_bytes(garbage)
        with pytest.raises(BadDelta):
            load(file)
    file.write_bytes(struct.pack("<Q", 2**25) + b"{" * 100)
    refused(file, "header is too large")
    file.write_bytes(data + b"more")
    refused(file, "damaged")
    file.unlink()
    file.mkdir()
    refused(file, "no file")


def test_absurd_size_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(delta_file, "MAX_ELEMENTS", 50)
    save(a_delta(), tmp_path / "a.safetensors")
    refused(tmp_path / "a.safetensors", "larger than any delta")


@pytest.mark.parametrize(
    "changes",
    [
        {"concept": "x" * 121},
        {"concept": ""},
        {"kind": "thing"},
        {"judge": {"a": math.nan}},
        {"config": {"a": object()}},
        {"parents": ({"name": "a"},)},
    ],
)
def test_what_could_not_be_read_back_is_not_made(changes):
    with pytest.raises(BadDelta):
        an_info(**changes)


def test_info_is_its_own_copy():
    config = {"rank": 3}
    info = an_info(config=config)
    config["rank"] = 4
    assert info.config == {"rank": 3}
    with pytest.raises(dataclasses.FrozenInstanceError):
        info.concept = "x"
    assert info.concepts == ("cat",) and an_info(merged=()).concepts == ("banana",)


# File names


@pytest.mark.parametrize(
    "words, stem",
    [
        ("van Gogh", "van_Gogh"),
        ("Käse-Igel 赤い魚", "Käse-Igel_赤い魚"),
        ("Ka\u0308se", "Käse"),
        ("हिन्दी", "हिन्दी"),
        ("../../etc/passwd", "etc_passwd"),
        ("..\\..\\x", "x"),
        ("C:\\Windows\\x", "C_Windows_x"),
        ("<img onerror=alert(1)>", "img_onerror_alert_1"),
        ("a\0b\r\nc", "a_b_c"),
        ("a\u202eb\u200fc", "a_b_c"),
        ("trailing. . .", "trailing"),
        ("-rf --x", "rf_--x"),
        ("CON", "CON_"),
        ("nul.txt", "nul_txt"),
        ("com1", "com1_"),
        ("LPT¹", "LPT¹_"),
        ("???", "delta"),
        ("", "delta"),
        ("\ud800", "delta"),
        ("x" * 300, "x" * 80),
    ],
)
def test_any_words_make_a_file_name(tmp_path, words, stem):
    assert safe_file_name(words) == stem
    path = contained(tmp_path, stem + ".safetensors")
    assert path.parent == tmp_path.resolve()
    path.write_bytes(b"")


def test_file_name_fits_file_systems():
    assert len(safe_file_name("𝔘" * 300).encode()) <= 200
    assert safe_file_name("a" * 79 + " b") == "a" * 79


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "a/../../x",
        "/etc/x",
        "\\x",
        "C:x",
        "C:\\x",
        "..\\x",
        "\\\\server\\x",
        "a\0",
        "x:stream",
        "link/x",
    ],
)
def test_names_outside_the_folder_are_refused(tmp_path, name):
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link").symlink_to(tmp_path)
    with pytest.raises(BadDelta):
        contained(inside, name)


def test_neighbour_folder_with_the_same_beginning_is_outside(tmp_path):
    (tmp_path / "ab").mkdir()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "link").symlink_to(tmp_path / "ab")
    with pytest.raises(BadDelta):
        contained(tmp_path / "a", "link")
    assert contained(tmp_path / "a", "sub/x") == tmp_path.resolve() / "a" / "sub" / "x"


def test_documented_example_is_what_the_code_prints(tmp_path):
    page = (ROOT / "docs" / "delta-format.md").read_text(encoding="utf-8")
    code, printed = re.search(r"```python\n(.*?)```.*?```text\n(.*?)```", page, re.DOTALL).groups()
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    assert run.stdout == printed
