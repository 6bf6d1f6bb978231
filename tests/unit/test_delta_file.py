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

from tests.deltas import LAYER, a_delta, an_info
from unlearn_core.delta import atomic
from unlearn_core.delta import format as delta_file
from unlearn_core.delta.format import Delta, DeltaInfo, Factor, load, save
from unlearn_core.delta.stack import Stack
from unlearn_core.errors import BadDelta, BadSetting, UnlearnError

ROOT = Path(__file__).resolve().parents[2]


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


def test_the_file_holds_what_is_in_memory_in_the_smallest_type(tmp_path):
    factors = {
        LAYER: Factor(torch.tensor([[1 / 3]]), torch.tensor([[1.0]]), 0.1),
        "other": Factor(torch.tensor([[1.0]]), torch.tensor([[0.5]]), 1.0),
    }
    single = Delta(factors, an_info())
    half = single.rounded()
    for delta, dtype in ((single, torch.float32), (half, torch.float16)):
        save(delta, tmp_path / "a.safetensors")
        back = load(tmp_path / "a.safetensors")
        assert torch.equal(back.factors[LAYER].matrix(), delta.factors[LAYER].matrix())
        assert back.content_hash() == delta.content_hash()
        with safe_open(tmp_path / "a.safetensors", "pt") as file:
            types = {file.get_tensor(name).dtype for name in file.keys() if "alpha" not in name}
        assert types == {dtype}
    assert single.content_hash() != half.content_hash()


def test_training_tensors_can_be_saved(tmp_path):
    down = torch.nn.Parameter(torch.randn(8, 2).half().float()).T
    up = torch.randn(4, 6, requires_grad=True).half().float()[:, :2]
    save(Delta({LAYER: Factor(down, up, 2.0)}, an_info()), tmp_path / "a.safetensors")
    assert torch.equal(load(tmp_path / "a.safetensors").factors[LAYER].down, down)


def test_saving_over_a_loaded_file_leaves_the_loaded_delta_alone(tmp_path):
    # float32, which needs no conversion: the loaded tensors could still be windows of the file
    save(
        Delta({LAYER: Factor(torch.full((2, 8), 1 / 3), torch.ones(6, 2), 1.0)}, an_info()), tmp_path / "a.safetensors"
    )
    back = load(tmp_path / "a.safetensors")
    before = back.content_hash()
    (tmp_path / "a.safetensors").write_bytes(bytes(10_000))
    assert Delta(back.factors, back.info).content_hash() == before


def test_hash_is_worked_out_once(monkeypatch):
    delta, read = a_delta(), []
    whole = delta_file.plain
    monkeypatch.setattr(delta_file, "plain", lambda *asked: read.append(1) or whole(*asked))
    for _ in range(3):
        stack = Stack().with_delta(delta)
    assert stack.parents()[0].sha256 == delta.content_hash() == Delta(delta.factors, delta.info).content_hash()
    assert len(read) == 2 * 2 * len(delta.factors), "once for each of the two deltas"


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


def test_same_delta_same_bytes(tmp_path):
    """In another process as well: there the documented example below prints its file's hash."""
    assert len({save(a_delta(), tmp_path / f"{i}.safetensors") for i in range(5)}) == 1


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
    }


@pytest.mark.parametrize("file", sorted((ROOT / "assets" / "demo" / "deltas").iterdir()), ids=lambda f: f.stem)
def test_no_bundled_delta_gives_web_uis_another_name_than_its_files(file):
    with safe_open(file, "pt") as opened:
        assert "ss_output_name" not in opened.metadata()


# Writing


def test_failed_write_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch):
    file = tmp_path / "a.safetensors"
    save(a_delta(0), file)
    before = file.read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(UnlearnError, match="disk .* is full"):
        save(a_delta(1), file)
    monkeypatch.undo()

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic.os, "replace", stopped)
    with pytest.raises(KeyboardInterrupt):
        save(a_delta(1), file)
    assert file.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.safetensors"]


def test_file_is_whole_before_it_has_its_name(tmp_path, monkeypatch):
    seen = []
    replace = os.replace

    def watch(source, target):
        seen.append((Path(source).parent, Path(source).read_bytes(), Path(target).exists()))
        replace(source, target)

    monkeypatch.setattr(atomic.os, "replace", watch)
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


@pytest.mark.parametrize(
    "changes",
    [
        {"concept": "x" * 121},
        {"concept": ""},
        {"kind": "thing"},
        {"check": {"a": math.nan}},
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


def test_documented_example_is_what_the_code_prints(tmp_path):
    page = (ROOT / "docs" / "delta-format.md").read_text(encoding="utf-8")
    code, printed = re.search(r"```python\n(.*?)```.*?```text\n(.*?)```", page, re.DOTALL).groups()
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    assert run.stdout == printed


# Files of the first version

OLDER = {
    "format": "1",
    "concept": '"banana"',
    "kind": '"object"',
    "anchor": '"pear"',
    "architecture": '"sd1"',
    "prediction_type": '"epsilon"',
    "base_fingerprint": '"0123456789abcdef"',
    "parents": "[]",
    "merged": "[]",
    "config": '{"check": true, "guard_weight": 0.1, "null_space": 0.0, "concept": "banana", "rank": 8}',
    "prompts": '[["a banana", "a pear"]]',
    "judge": '{"forgotten_before": 0.0, "forgotten_after": 1.0, "kept_before": 1.0, "kept_after": 0.9, '
    '"verdict": "forgotten, the rest kept", "worst_neighbour": {"concept": "kiwi", "lost": 0.5}}',
    "steps": "0",
    "stopped": '""',
}
"""Texts of a file as version 1 wrote them, by hand."""


def older(folder, **texts):
    """A file of version 1 with one layer."""
    values = torch.tensor([[1.0, 2.0]]).half(), torch.tensor([[3.0], [4.0]]).half(), torch.tensor(1.0)
    tensors = {LAYER + part: t for part, t in zip(delta_file.PARTS, values, strict=True)}
    save_file(tensors, folder / "old.safetensors", {f"unlearn.{k}": v for k, v in (OLDER | texts).items() if v})
    return folder / "old.safetensors"


def test_the_checkpoints_name_comes_back_and_is_left_out_where_it_is_not_known(tmp_path):
    named, file = a_delta(base_name="dreamshaper_8.safetensors"), tmp_path / "a.safetensors"
    save(named, file)
    assert load(file).info.base_name == "dreamshaper_8.safetensors"
    assert named.content_hash() == a_delta().content_hash(), "it is no part of what the delta does"
    save(a_delta(), file)
    with safe_open(file, "pt") as opened:
        assert "unlearn.base_name" not in opened.metadata(), "the same bytes as before there was such a text"
    assert load(file).info.base_name == ""
    for wrong in ("a\nb", "x" * 121, 5):
        with pytest.raises(BadDelta, match="base_name"):
            an_info(base_name=wrong)


def test_a_file_of_version_1_is_read_and_written_as_version_2(tmp_path):
    delta = load(older(tmp_path))
    assert delta.factors[LAYER].matrix().tolist() == [[3.0, 6.0], [4.0, 8.0]]
    assert delta.info == DeltaInfo(
        "banana",
        "object",
        "pear",
        "sd1",
        "epsilon",
        "0123456789abcdef",
        config={"check": True, "guard_weight": 0.1, "null_space": 0.0, "concept": "banana", "rank": 8},
        prompts=(("a banana", "a pear"),),
        check={
            "forgotten_before": 0.0,
            "forgotten_after": 1.0,
            "preserved_before": 1.0,
            "preserved_after": 0.9,
            "verdict": "forgotten, the rest kept",
            "worst_neighbour": {"concept": "kiwi", "lost": 0.5},
        },
    )
    save(delta, tmp_path / "new.safetensors")
    again = load(tmp_path / "new.safetensors")
    assert again.info == delta.info and again.content_hash() == delta.content_hash()
    with safe_open(tmp_path / "new.safetensors", "pt") as file:
        texts = file.metadata()
    assert texts["unlearn.format"] == "2" and "unlearn.judge" not in texts and "unlearn.check" in texts


@pytest.mark.parametrize(
    "texts, words",
    [
        ({"judge": ""}, "lacks 'unlearn.judge'"),
        ({"judge": "[1]"}, "table"),
        ({"format": "2"}, "lacks 'unlearn.check'"),
        ({"format": "0"}, "update this tool"),
    ],
)
def test_a_broken_file_of_version_1_is_refused(tmp_path, texts, words):
    with pytest.raises(BadDelta, match=re.escape(words)):
        load(older(tmp_path, **texts))


@pytest.mark.parametrize(
    "file", sorted((ROOT / "assets" / "demo" / "deltas").glob("*.safetensors")), ids=lambda f: f.stem
)
def test_bundled_deltas_are_read(file):
    delta = load(file)
    delta.check_effect()
    assert delta.info.architecture == "sd1" and delta.info.prompts and "verdict" in delta.info.check
