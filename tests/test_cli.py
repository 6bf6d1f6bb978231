"""The command line as a person uses it: good input, every kind of wrong input, and Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from unlearn_core import Delta, DeltaInfo, Stack, load, save
from unlearn_core.cli.main import main
from unlearn_core.demo.recognition import CHECKPOINT
from unlearn_core.standalone.checkpoint import UNET
from unlearn_core.standalone.model import StandaloneModel

pytestmark = pytest.mark.usefixtures("few")
ROOT = Path(__file__).parents[1]
QUICK = ["--set", "steps=3", "--set", "sampling_steps=2", "--set", "closed_form=no", "--set", "batch=2"]
CHEAP = ["--anchor", "pear", *QUICK]


@pytest.fixture(scope="module")
def made(few, tmp_path_factory):
    """A folder with one quickly made delta, its report and its pictures; the name has a space and an umlaut."""
    folder = tmp_path_factory.mktemp("ein schöner Ordner")
    files = {
        k: str(folder / v) for k, v in (("--out", "b.safetensors"), ("--report", "r.json"), ("--preview", "p.png"))
    }
    options = [part for pair in files.items() for part in pair]
    assert main(["forget", "--checkpoint", str(CHECKPOINT), "--concept", "banana", *options, *CHEAP]) == 0
    return folder


def test_forget_writes_delta_report_and_pictures(made):
    report = json.loads((made / "r.json").read_text(encoding="utf-8"))
    wanted = "concept anchor architecture prediction_type steps seconds peak_memory_mb delta_bytes delta_sha256"
    assert set(wanted.split()) | {"matched_keys", "unmatched_keys", "judge"} <= report.keys()
    assert report["unmatched_keys"] == 0 < report["matched_keys"]
    assert report["delta_bytes"] == (made / "b.safetensors").stat().st_size
    with Image.open(made / "p.png") as picture:
        assert picture.width > 1000 and len(picture.getcolors(2**24)) > 500


def test_an_unchecked_run_draws_for_its_pictures_alone(tmp_path, capsys):
    wish = ["forget", "--checkpoint", str(CHECKPOINT), "--concept", "banana", "--set", "check=no"]
    few = ["--set", "sampling_steps=1", "--out", str(tmp_path / "b.safetensors")]
    assert main([*wish, *few]) == 0
    out, bars = capsys.readouterr()
    assert "judge: not judged: without the check; in one go" in out and "drawing" not in bars
    assert main([*wish, *few, "--preview", str(tmp_path / "p.png")]) == 0
    assert "drawing" in capsys.readouterr().err
    with Image.open(tmp_path / "p.png") as picture:
        assert picture.width > 300 and len(picture.getcolors(2**24)) > 500


def test_inspect_in_words_and_json(made, capsys):
    assert main(["inspect", str(made / "b.safetensors"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["concepts"] == ["banana"] and facts["anchor"] == "pear" and facts["steps"] == 3
    assert main(["inspect", str(made / "b.safetensors")]) == 0
    assert "banana" in capsys.readouterr().out


def test_stack_merges_and_preview_draws(made, tmp_path):
    second = tmp_path / "frog.safetensors"
    frog = ["--concept", "frog", "--anchor", "cat", "--stack", f"{made / 'b.safetensors'}:1", "--set", "check=no"]
    assert main(["forget", "--checkpoint", str(CHECKPOINT), *frog, "--out", str(second)]) == 0
    assert [p.concept for p in load(second).info.parents] == ["banana"]
    merged = tmp_path / "both.safetensors"
    assert main(["stack", str(made / "b.safetensors"), f"{second}:0.5", "--out", str(merged)]) == 0
    assert load(merged).info.concepts == ("banana", "frog")
    assert (
        main(
            ["stack", str(made / "b.safetensors"), str(second), "--method", "svd", "--rank", "4", "--out", str(merged)]
        )
        == 0
    )
    picture = tmp_path / "p.png"
    drawn = ["--prompts", "a cat in ink style", "--steps", "2", "--stack", str(merged), "--out", str(picture)]
    assert main(["preview", "--checkpoint", str(CHECKPOINT), *drawn]) == 0
    assert Image.open(picture).size[1] > 256


def refused(capsys, *arguments):
    """Run a command that must fail with one sentence; returns it."""
    assert main([str(a) for a in arguments]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def wrong_checkpoints(folder):
    weights = load_file(CHECKPOINT)
    (folder / "garbage.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0 not json")
    (folder / "empty.safetensors").write_bytes(b"")
    (folder / "cut.safetensors").write_bytes(CHECKPOINT.read_bytes()[:100_000])
    (folder / "pickle.ckpt").write_bytes(b"x")
    save_file({"lora.weight": torch.zeros(2, 2)}, folder / "other.safetensors")
    save_file(weights | {UNET + "input_blocks.0.0.weight": torch.zeros(64, 9, 3, 3)}, folder / "inpainting.safetensors")
    save_file(weights | {UNET + "label_emb.0.0.weight": torch.zeros(4, 4)}, folder / "unclip.safetensors")
    save_file({k: v for k, v in weights.items() if "first_stage" not in k}, folder / "no-vae.safetensors")
    return {
        "missing.safetensors": "no checkpoint",
        ".": "neither a checkpoint file nor a diffusers folder",
        "garbage.safetensors": "not a readable",
        "empty.safetensors": "not a readable",
        "cut.safetensors": "not a readable",
        "pickle.ckpt": "can run code",
        "other.safetensors": "not a Stable Diffusion",
        "inpainting.safetensors": "inpainting",
        "unclip.safetensors": "unCLIP",
        "no-vae.safetensors": "lacks",
    }


def test_wrong_checkpoints_are_refused_with_a_sentence(tmp_path, capsys):
    for name, words in wrong_checkpoints(tmp_path).items():
        command = ["forget", "--checkpoint", tmp_path / name, "--concept", "cat", "--out", tmp_path / "o.safetensors"]
        assert words in refused(capsys, *command), name
    assert not (tmp_path / "o.safetensors").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--concept", ""], "empty"),
        (["--concept", "cat\nReport: done", "--set", "steps"], "KEY=VALUE"),
        (["--concept", "cat", "--set", "colour=red"], "no setting"),
        (["--concept", "cat", "--set", "steps=-1"], "from 1 to"),
        (["--concept", "cat", "--anchor", "cat"], "itself"),
        (["--concept", "cat", "--stack", "nowhere.safetensors"], "nowhere"),
        (["--concept", "cat", "--stack", "old.ckpt"], "code"),
        (["--concept", "cat", "--stack", "x.safetensors:9"], "strength"),
        (["--concept", "cat", "--device", "warp9"], "device"),
    ],
)
def test_wrong_options_are_refused_with_a_sentence(options, words, tmp_path, capsys):
    command = ["forget", "--checkpoint", CHECKPOINT, "--out", tmp_path / "o.safetensors", *options]
    assert words in refused(capsys, *command)


def test_wrong_deltas_are_refused_with_a_sentence(made, tmp_path, capsys):
    good = (made / "b.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(good[:-100])
    foreign = load(made / "b.safetensors")
    info = DeltaInfo("dog", "object", "cat", "sd1", "epsilon", "0" * 16)
    save(Delta(foreign.factors, info), tmp_path / "foreign.safetensors")
    for name, words in (("cut", "cut"), ("foreign", "base")):
        command = ["preview", "--checkpoint", CHECKPOINT, "--prompts", "x", "--out", tmp_path / "p.png"]
        assert words in refused(capsys, *command, "--stack", tmp_path / f"{name}.safetensors")
    twice = ["stack", made / "b.safetensors", made / "b.safetensors", "--out", tmp_path / "m.safetensors"]
    assert "twice" in refused(capsys, *twice)


def test_unwritable_places_are_refused_before_the_work(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    out = tmp_path / "file" / "o.safetensors"
    assert "Cannot write" in refused(capsys, "forget", "--checkpoint", CHECKPOINT, "--concept", "cat", "--out", out)


def test_unknown_demo_concept_lists_the_known_ones(tmp_path, capsys):
    assert "banana" in refused(capsys, "demo", "--concept", "unicorn", "--out", tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="a console's Ctrl-C cannot be sent to one process on Windows")
@pytest.mark.parametrize("when", ["keep 0.", "after "])
def test_ctrl_c_keeps_a_marked_delta_and_ends_with_130(tmp_path, when):
    """Sent to a real process, once in the middle of training and once while the judge looks at the result."""
    out = tmp_path / "o.safetensors"
    steps = "steps=5000" if when.startswith("keep") else "steps=2"
    options = ["--concept", "banana", "--out", str(out), *CHEAP, "--set", "layers=attention", "--set", steps]
    command = [sys.executable, "-m", "unlearn_core", "forget", "--checkpoint", str(CHECKPOINT), *options]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as run:
        seen = ""
        while when not in seen:
            letter = run.stderr.read(1)
            assert letter, seen[-2000:]
            seen += letter
        run.send_signal(signal.SIGINT)
        rest = run.communicate(timeout=120)[1]
    assert run.returncode == 130 and "Traceback" not in seen + rest
    assert load(out).info.stopped.startswith("stopped at step")


def test_v_prediction_is_read_from_the_checkpoint(tmp_path):
    for name in ("demo.yaml", "tokenizer"):
        (tmp_path / name).symlink_to(CHECKPOINT.with_name(name))
    save_file(load_file(CHECKPOINT) | {"v_pred": torch.zeros(0)}, tmp_path / "demo.safetensors")
    assert StandaloneModel(tmp_path / "demo.safetensors").prediction_type == "v_prediction"
    assert StandaloneModel(CHECKPOINT).prediction_type == "epsilon"
    assert len(Stack()) == 0
