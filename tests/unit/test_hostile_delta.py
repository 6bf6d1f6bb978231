"""What a delta file from a stranger may not do, and names that stay in their folder."""

import json
import math
import re
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.deltas import LAYER, a_delta
from unlearn_core.delta import format as delta_file
from unlearn_core.delta.apply import applied
from unlearn_core.delta.format import load, save
from unlearn_core.delta.paths import contained, safe_file_name
from unlearn_core.delta.stack import Stack
from unlearn_core.errors import BadDelta

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
    "future format": (text("format", "3"), "update this tool"),
    "format is no number": (text("format", "x" * 500), "update this tool"),
    "format of control characters": (text("format", "2\x00\u202e"), "update this tool"),
    "missing text": (without("unlearn.prompts"), "lacks 'unlearn.prompts'"),
    "no down": (drop(DOWN), "lora_down"),
    "no up": (drop(UP), "lora_up"),
    "no alpha": (drop(ALPHA), "alpha"),
    "foreign tensor": (put("lora_te_x.lora_mid.weight", torch.ones(1)), "lora_down"),
    "no tensors": (lambda tensors, texts: tensors.clear(), "'a.safetensors'"),
    "shapes do not multiply": (put(UP, torch.ones(6, 4)), "cannot be multiplied"),
    "rank 0": (lambda t, _: t.update({DOWN: torch.ones(0, 8), UP: torch.ones(6, 0)}), "cannot be multiplied"),
    "rank over the layer's inputs": (
        lambda t, _: t.update({DOWN: torch.ones(5, 4), UP: torch.ones(6, 5)}),
        "layer only 4",
    ),
    "rank over its outputs": (lambda t, _: t.update({DOWN: torch.ones(5, 8), UP: torch.ones(2, 5)}), "layer only 2"),
    "width 0": (put(DOWN, torch.ones(3, 0)), "cannot be multiplied"),
    "convolution": (put(DOWN, torch.ones(3, 8, 1, 1)), "cannot be multiplied"),
    "vector": (put(DOWN, torch.ones(3)), "cannot be multiplied"),
    "alpha nan": (put(ALPHA, torch.tensor(math.nan)), "not finite"),
    "alpha inf": (put(ALPHA, torch.tensor(math.inf)), "not finite"),
    "alpha huge": (put(ALPHA, torch.tensor(1e30)), "alpha"),
    "values of 3e38": (put(DOWN, torch.full((3, 8), 3e38)), "far larger"),
    "values of 1e10": (put(UP, torch.full((6, 3), 1e10)), "far larger"),
    "layer of 2^18": (put(UP, torch.ones(2**18, 3, dtype=torch.float16)), "larger than any"),
    "control characters in a key": (renamed("\x1b]0;owned\x07\x1b[2J"), "letters"),
    "direction marks in a key": (renamed("lora_unet_\u202e"), "letters"),
    "control characters in the format": (text("format", "\x1b[2J"), "update this tool"),
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
    "nested JSON": (text("check", '{"a":' + "[" * 20 + "]" * 20 + "}"), "plain data"),
    "not a number": (text("check", '{"a": NaN}'), "finite"),
    "infinite number": (text("check", '{"a": 1e999}'), "finite"),
    "huge number": (text("check", '{"a": ' + "9" * 100 + "}"), "plain data"),
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
    "near no list": (text("near", '"fruit"'), "not a list"),
    "near no texts": (text("near", "[1]"), "near term"),
    "near too long": (text("near", json.dumps(["x" * 121])), "near term"),
    "too many near": (text("near", json.dumps(["a"] * 10_001)), "too many"),
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


def test_a_rank_bomb_is_refused_before_its_numbers_are_read(tmp_path, monkeypatch):
    """A file of 160 kB, whose norm would take 6 GB and whose layer is a single number."""
    tensors, texts = good()
    save_file(tensors | {DOWN: torch.ones(20_000, 1), UP: torch.ones(1, 20_000)}, tmp_path / "a.safetensors", texts)
    monkeypatch.setattr(delta_file, "plain", lambda *_: pytest.fail("numbers were read"))
    refused(tmp_path / "a.safetensors", "rank 20000")
    with pytest.raises(BadDelta, match="rank 3, but the layer only 2"):
        delta_file.Factor(torch.ones(3, 8), torch.ones(2, 3), 1.0)


def test_absurd_size_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(delta_file, "MAX_ELEMENTS", 50)
    save(a_delta(), tmp_path / "a.safetensors")
    refused(tmp_path / "a.safetensors", "larger than any delta")


def raw(path: Path, header: str, numbers: bytes = b"") -> Path:
    path.write_bytes(struct.pack("<Q", len(header.encode())) + header.encode() + numbers)
    return path


def test_headers_have_a_size_a_count_and_single_names(tmp_path):
    file = tmp_path / "a.safetensors"
    row = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    refused(raw(file, "{" + " " * delta_file.MAX_HEADER + "}"), "header is too large")
    refused(raw(file, "{" + ",".join(f'"{i}":{row}' for i in range(3 * delta_file.MAX_LAYERS + 1)) + "}"), "12289")
    refused(raw(file, f'{{"a":{row},"a":{row}}}', b"1234"), "twice")
    refused(
        raw(file, '{"\\u001b]0;owned\\u0007\\nsecond line":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}'),
        "letters",
    )
    assert delta_file.MAX_HEADER <= 4 * 2**20


def test_no_file_is_written_that_would_be_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(delta_file, "MAX_HEADER", 1000)
    with pytest.raises(BadDelta, match="more layers or texts"):
        save(a_delta(), tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def test_numbers_too_small_to_change_anything_are_told(tmp_path):
    tensors, texts = good()
    for name in list(tensors):
        if name.endswith(delta_file.PARTS[0]):
            tensors[name] = tensors[name] * 1e-30
    save_file(tensors, tmp_path / "a.safetensors", texts)
    with pytest.raises(BadDelta, match="would change nothing, its numbers are too small"):
        load(tmp_path / "a.safetensors").check_effect()
    for name in list(tensors):
        if name.endswith(".alpha"):
            tensors[name] = torch.tensor(0.0)
    save_file(tensors, tmp_path / "a.safetensors", texts)
    with pytest.raises(BadDelta, match="would change nothing"):
        load(tmp_path / "a.safetensors").check_effect()


def test_the_norm_forms_no_matrix_of_the_ranks(monkeypatch):
    delta = a_delta(rank=3)
    whole = delta.norm()
    change = sum(f.matrix().double().square().sum().item() for f in delta.factors.values())
    assert whole == pytest.approx(math.sqrt(change), rel=1e-6)
    monkeypatch.setattr(delta_file, "BLOCK", 2)
    assert delta.norm() == pytest.approx(whole, rel=1e-12)


def test_a_change_out_of_proportion_to_its_layer_is_not_applied():
    net = torch.nn.ModuleDict({"first": torch.nn.Linear(8, 6)})
    weight = net["first"].weight.clone()
    delta = delta_file.Delta(
        {LAYER: delta_file.Factor(torch.ones(1, 8), torch.full((6, 1), 900.0), 1.0)}, a_delta().info
    )
    delta.check_effect()
    with pytest.raises(BadDelta, match="first by far more"), applied(net, {LAYER: "first"}, Stack().with_delta(delta)):
        pass
    assert torch.equal(net["first"].weight, weight)


def test_control_characters_of_a_file_name_are_not_shown(tmp_path):
    save(a_delta(), tmp_path / "good.safetensors")
    file = (tmp_path / "good.safetensors").rename(tmp_path / "a\x1b[2J\u202eb.safetensors")
    assert load(file).label == "a?[2J?b"
    file.write_bytes(b"x")
    refused(file, "a?[2J?b.safetensors")


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
        "loop",
        "x" * 300,
        "\ud83d",
        ["x"],
        None,
    ],
)
def test_names_outside_the_folder_are_refused(tmp_path, name):
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link").symlink_to(tmp_path)
    (inside / "loop").symlink_to("loop")
    with pytest.raises(BadDelta):
        contained(inside, name)


def test_a_link_to_another_drive_leads_outside(tmp_path, monkeypatch):
    """Windows has no common path of two drives, and says so by an error of its own."""

    def no_common_path(paths):
        raise ValueError("Paths don't have the same drive")

    monkeypatch.setattr("os.path.commonpath", no_common_path)
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "link").symlink_to(tmp_path)
    with pytest.raises(BadDelta):
        contained(tmp_path / "inside", "link")
    assert contained(tmp_path / "inside", "a") == tmp_path.resolve() / "inside" / "a"


def test_neighbour_folder_with_the_same_beginning_is_outside(tmp_path):
    (tmp_path / "ab").mkdir()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "link").symlink_to(tmp_path / "ab")
    with pytest.raises(BadDelta):
        contained(tmp_path / "a", "link")
    assert contained(tmp_path / "a", "sub/x") == tmp_path.resolve() / "a" / "sub" / "x"
