"""The command line as a person uses it: good input, every kind of wrong input, and Ctrl-C.

What is right is asked of the tiny host in place of the checkpoint's networks; the demo command has the default path.
"""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.few import reduced
from tests.tiny import TinyHost
from unlearn_core import Delta, DeltaInfo, load, save
from unlearn_core.cli import progress_bar
from unlearn_core.cli.main import main
from unlearn_core.demo.recognition import CHECKPOINT
from unlearn_core.standalone.checkpoint import UNET
from unlearn_core.standalone.model import StandaloneModel

ROOT = Path(__file__).parents[2]
FORGET = ["forget", "--checkpoint", str(CHECKPOINT), "--set", "sampling_steps=2"]
QUICK = ["--set", "quality=quick"]
TRAINED = ["--anchor", "pear", "--set", "steps=3", "--set", "closed_form=no", "--set", "batch=2"]


@contextmanager
def replaced():
    """The tiny host in place of any checkpoint, and small recipes."""
    with pytest.MonkeyPatch.context() as patch, reduced("unlearn_core"):
        patch.setattr("unlearn_core.standalone.model.StandaloneModel", lambda *_, **__: TinyHost())
        yield


@pytest.fixture
def tiny():
    with replaced():
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with one quickly made delta, its report and its pictures; the name has a space and an umlaut."""
    folder = tmp_path_factory.mktemp("ein schöner Ordner")
    files = {
        k: str(folder / v) for k, v in (("--out", "b.safetensors"), ("--report", "r.json"), ("--preview", "p.png"))
    }
    options = [part for pair in files.items() for part in pair]
    with replaced():
        assert main([*FORGET, "--concept", "banana", *options, *TRAINED]) == 0
    return folder


def test_forget_writes_delta_report_and_pictures(made):
    report = json.loads((made / "r.json").read_text(encoding="utf-8"))
    wanted = "concept anchor architecture prediction_type steps seconds peak_memory_mb delta_bytes delta_sha256"
    assert set(wanted.split()) | {"matched_keys", "unmatched_keys", "check"} <= report.keys()
    assert report["unmatched_keys"] == 0 < report["matched_keys"]
    assert report["delta_bytes"] == (made / "b.safetensors").stat().st_size
    with Image.open(made / "p.png") as picture:
        assert picture.width > 300 and len(picture.getcolors(2**24)) > 100


def test_the_summary_is_printed_in_rows(tiny, tmp_path, capsys):
    out = tmp_path / "b.safetensors"
    assert main([*FORGET, "--concept", "banana", *TRAINED, "--out", str(out)]) == 0
    rows = dict(line.split(":", 1) for line in capsys.readouterr().out.splitlines())
    assert rows["Forget"].strip() == "banana" and rows["How"].strip() == "training, 3 steps"
    assert rows["Delta"].strip() == str(out) and "forgotten" in rows["Result"]


def test_a_list_is_told_block_by_block_with_what_to_do_next(tiny, tmp_path, capsys):
    out = tmp_path / "f.safetensors"
    wish = [*FORGET, "--concept", "banana, frog", "--keep", "qwertzu", *QUICK, "--out", str(out)]
    assert main(wish) == 0
    told, notes = capsys.readouterr()
    files = [str(tmp_path / f"f_{name}.safetensors") for name in ("banana", "frog")]
    lines = told.splitlines()
    places = [lines.index(line) for line in ("1 of 2: banana", "2 of 2: frog")]
    assert all(lines[at - 1] == "" and {*lines[at + 1]} == {"-"} for at in places)
    first = dict(line.split(":", 1) for line in lines[places[0] + 2 : places[1] - 1])
    assert first["Forget"].strip() == "banana" and first["Delta"].strip() == files[0]
    assert lines[-4].startswith("Next: put these 2 files") and [f.strip() for f in lines[-3:-1]] == files
    assert "note: This model's word list does not name 'qwertzu'" in notes and "note: 'banana, frog'" in notes


def test_an_unchecked_run_draws_for_its_pictures_alone(tiny, tmp_path, capsys):
    wish = [*FORGET, "--concept", "banana", *QUICK, "--out", str(tmp_path / "b.safetensors")]
    assert main(wish) == 0
    out, bars = capsys.readouterr()
    assert "not checked" in out and "at once, without training" in out and "drawing" not in bars
    assert main([*wish, "--preview", str(tmp_path / "p.png")]) == 0
    assert "drawing" in capsys.readouterr().err
    with Image.open(tmp_path / "p.png") as picture:
        assert picture.width > 100 and len(picture.getcolors(2**24)) > 50


def test_any_form_of_a_word_makes_the_same_file(tiny, tmp_path, capsys):
    typed = ["banana", "a banana", "Bananas", "(banana:1.2)", '"banana"', "Banana.", "the bananas", "forget the banana"]
    files = [tmp_path / str(i) / "b.safetensors" for i in range(len(typed))]
    for concept, file in zip(typed, files, strict=True):
        file.parent.mkdir()
        assert main([*FORGET, "--concept", concept, *QUICK, "--out", str(file)]) == 0
        understood = f"'{concept}' was understood as 'banana'" in capsys.readouterr().err
        assert understood == (concept != "banana")
    assert len({file.read_bytes() for file in files}) == 1


def test_force_is_an_option_that_lets_unclear_words_pass(tiny, tmp_path, capsys):
    wish = [*FORGET, "--concept", "a photo of a cat on a sofa", *QUICK, "--out", str(tmp_path / "b.safetensors")]
    assert "reads as a sentence" in refused(capsys, *wish)
    assert main([*wish, "--force"]) == 0


def test_inspect_in_words_and_json(made, capsys):
    assert main(["inspect", str(made / "b.safetensors"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["concepts"] == ["banana"] and facts["anchor"] == "pear" and facts["steps"] == 3
    assert main(["inspect", str(made / "b.safetensors"), "--all"]) == 0
    whole = capsys.readouterr().out
    assert all(json.dumps(p) in whole for p in facts["prompts"]) and facts["content_hash"] in whole
    assert main(["inspect", str(made / "b.safetensors")]) == 0
    short = capsys.readouterr().out
    rows = dict(line.split(":", 1) for line in short.splitlines() if ": " in line)
    rows = {label: value.strip() for label, value in rows.items()}
    assert rows["Forgets"] == "banana" and rows["Draws instead"] == "pear" and rows["Kind"] == "object"
    assert rows["Prompts"] == str(len(facts["prompts"])) and rows["Result"] == facts["check"]["verdict"]
    assert rows["Made with"] == "training, 3 steps, quality normal, seed 0"
    assert rows["Made for"].endswith(facts["base_fingerprint"]) and "On top of" not in rows
    assert len(short.splitlines()) <= 14 and "--all" in short


def test_stack_merges_and_preview_draws(tiny, made, tmp_path, capsys):
    first, second, merged = str(made / "b.safetensors"), tmp_path / "frog.safetensors", tmp_path / "both.safetensors"
    frog = ["--concept", "frog", "--anchor", "cat", "--stack", f"{first}:1", *QUICK]
    assert main([*FORGET, *frog, "--out", str(second)]) == 0
    assert [p.concept for p in load(second).info.parents] == ["banana"]
    assert main(["stack", first, f"{second}:0.5", "--out", str(merged)]) == 0
    assert load(merged).info.concepts == ("banana", "frog")
    assert main(["stack", first, str(second), "--method", "svd", "--rank", "4", "--out", str(merged)]) == 0
    assert "relative error" in capsys.readouterr().out and load(merged).info.config == {"merge": "svd", "rank": 4}
    picture = tmp_path / "p.png"
    drawn = ["--prompts", "a cat in ink style", "--steps", "2", "--stack", str(merged), "--out", str(picture)]
    assert main(["preview", "--checkpoint", str(CHECKPOINT), *drawn]) == 0
    with Image.open(picture) as made_now:
        assert made_now.height > 2 * 32


def test_stack_takes_out_and_trains_anew(tiny, tmp_path, capsys):
    """The files, the words, and nothing made twice."""
    files = []
    for concept, anchor in (("banana", "pear"), ("frog", "cat")):
        out = tmp_path / f"{concept}.safetensors"
        options = [o for f in files for o in ("--stack", f)]
        wish = ["--concept", concept, "--anchor", anchor, "--out", str(out), *options, *QUICK]
        assert main([*FORGET, *wish]) == 0
        files.append(str(out))
    capsys.readouterr()
    assert main(["stack", *files, "--without", "banana"]) == 0
    assert "'banana' again" in capsys.readouterr().out
    new = ["--checkpoint", str(CHECKPOINT), "--retrain", "--out", str(tmp_path / "new")]
    assert main(["stack", *files, "--without", "banana", *new]) == 0
    assert "check, made anew" in capsys.readouterr().out
    made = load(tmp_path / "new" / "frog.safetensors")
    assert made.info.parents == () and made.info.concept == "frog"
    written = (tmp_path / "new" / "frog.safetensors").stat().st_mtime_ns
    assert main(["stack", *files, "--without", "banana", *new]) == 0
    assert (tmp_path / "new" / "frog.safetensors").stat().st_mtime_ns == written, "it was finished, and not of another"
    capsys.readouterr()
    svd = ["--method", "svd", "--rank", "4", "--checkpoint", str(CHECKPOINT), "--out", str(tmp_path / "m.safetensors")]
    assert main(["stack", *files, *svd]) == 0
    said = capsys.readouterr().out
    assert "relative error" in said and "check, before" in said and "check, merged" in said
    out = tmp_path / "balanced.safetensors"
    balance = ["--balance", "--checkpoint", str(CHECKPOINT), "--out", str(out)]
    assert main(["stack", *files, *balance]) == 0
    said = capsys.readouterr().out
    assert "balanced 2 deltas (banana, frog)" in said and "Change of everything else" in said
    assert "check, before" in said and "check, balanced" in said
    assert load(out).info.concepts == ("banana", "frog") and load(out).name == "balanced"
    for wrong in ([], ["--without", "frog"]):
        assert main(["stack", files[0], *files[2:], *wrong, *balance]) == 1, "one delta is no stack to balance"
    for wrong in (["--method", "svd"], ["--retrain", "--without", "frog"], ["--into", str(CHECKPOINT)]):
        assert main(["stack", *files, *balance, *wrong]) == 1
    assert main(["stack", *files, "--balance", "--out", str(out)]) == 1, "nothing could draw its pictures"
    for wrong in (["--retrain"], ["--into", "x.safetensors"], []):
        assert main(["stack", *files, *wrong]) == 1


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
        (["--concept", ""], "it is empty"),
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


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--seed", str(2**64)], "Seed: 18446744073709551616 is not a whole number from 0 to 4294967295."),
        (["--seed", "-1"], "Seed: -1 is not a whole number"),
        (["--device", "meta"], "The device 'meta' computes nothing: use cpu"),
        (["--device", "meta:0"], "The device 'meta:0' computes nothing"),
    ],
)
def test_what_nothing_can_be_drawn_with_is_refused(options, words, tmp_path, capsys):
    out = tmp_path / "p.png"
    assert words in refused(capsys, "preview", "--checkpoint", CHECKPOINT, "--prompts", "x", "--out", out, *options)
    assert not out.exists()


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


@pytest.mark.parametrize("phase, stopped", [("training", "stopped at step"), ("after", "stopped at step 3")])
def test_ctrl_c_keeps_a_marked_delta_and_ends_with_130(tiny, tmp_path, monkeypatch, capsys, phase, stopped):
    """Once in the middle of training and once while the check looks at the result."""
    show, before = progress_bar.Bar.show, signal.getsignal(signal.SIGINT)

    def pressed(self, report, *fraction):
        show(self, report, *fraction)
        if report.phase == phase and (report.done or phase == "after"):
            signal.raise_signal(signal.SIGINT)
            monkeypatch.setattr(progress_bar.Bar, "show", show)

    monkeypatch.setattr(progress_bar.Bar, "show", pressed)
    out = tmp_path / "o.safetensors"
    assert main([*FORGET, "--concept", "banana", *TRAINED, "--out", str(out)]) == 130
    assert load(out).info.stopped.startswith(stopped) and "Stopped" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGINT) is before


def test_a_stopped_run_leaves_the_finished_delta_of_an_earlier_one(tiny, tmp_path, monkeypatch, capsys):
    out, page = tmp_path / "o.safetensors", tmp_path / "o.png"
    wish = [*FORGET, "--concept", "banana", *TRAINED, "--out", str(out), "--preview", str(page)]
    assert main(wish) == 0
    before = [out.read_bytes(), page.read_bytes()]
    show = progress_bar.Bar.show

    def pressed(self, report, *fraction):
        show(self, report, *fraction)
        if report.phase == "training" and report.done:
            signal.raise_signal(signal.SIGINT)
            monkeypatch.setattr(progress_bar.Bar, "show", show)

    monkeypatch.setattr(progress_bar.Bar, "show", pressed)
    assert main([*wish, "--set", "seed=1"]) == 130
    assert [out.read_bytes(), page.read_bytes()] == before and not load(out).info.stopped
    assert "o.safetensors is left as it is" in capsys.readouterr().err


def test_a_second_ctrl_c_ends_at_once(tiny, tmp_path, monkeypatch, capsys):
    show, seen = progress_bar.Bar.show, []

    def pressed(self, report, *fraction):
        show(self, report, *fraction)
        if report.phase == "training":
            seen.append(report.done)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(progress_bar.Bar, "show", pressed)
    monkeypatch.setattr("unlearn_core.cli.signals.PRESSED", 0.0)  # a tiny step takes no longer than a finger
    out = tmp_path / "o.safetensors"
    assert main([*FORGET, "--concept", "banana", *TRAINED, "--out", str(out)]) == 130
    assert seen == [0, 1] and not out.exists() and "Stopped." in capsys.readouterr().err


@pytest.mark.full
@pytest.mark.skipif(os.name == "nt", reason="a console's Ctrl-C cannot be sent to one process on Windows")
def test_ctrl_c_reaches_a_real_process(tmp_path):
    """On the bundled model, in the middle of training."""
    out = tmp_path / "o.safetensors"
    options = ["--concept", "banana", "--out", str(out), *TRAINED, "--set", "steps=5000"]
    command = [sys.executable, "-m", "unlearn_core", *FORGET, *options]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as run:
        seen = ""
        while "keep 0." not in seen:
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


def test_an_anchor_may_also_come_from_a_setting(tiny, tmp_path):
    out = tmp_path / "b.safetensors"
    assert main([*FORGET, "--concept", "banana", "--out", str(out), *QUICK, "--set", "anchor=pear"]) == 0
    assert load(out).info.anchor == "pear"


def test_a_delta_that_harms_too_much_is_not_saved_unless_forced(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("unlearn_core.method.forget.too_harmful", lambda *_: "Nothing was handed on.")
    out, report, picture = (tmp_path / name for name in ("b.safetensors", "r.json", "p.png"))
    wish = [*FORGET, "--concept", "banana", *TRAINED, "--out", str(out), "--report", str(report)]
    wish += ["--preview", str(picture)]
    assert main(wish) == 1
    rows = dict(line.split(":", 1) for line in capsys.readouterr().out.splitlines())
    assert rows["Not kept"].strip() == "Nothing was handed on." and "Delta" not in rows
    assert not out.exists() and picture.exists()
    assert json.loads(report.read_text(encoding="utf-8"))["withheld"] == "Nothing was handed on."
    assert main([*wish, "--force"]) == 0
    assert out.exists() and "Not kept" not in capsys.readouterr().out


def test_the_next_of_a_list_is_not_made_on_a_delta_that_was_withheld(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("unlearn_core.method.forget.too_harmful", lambda *_: "Nothing was handed on.")
    out = tmp_path / "b.safetensors"
    assert main([*FORGET, "--concept", "banana, frog", *QUICK, "--out", str(out)]) == 1
    assert list(tmp_path.glob("*.safetensors")) == [] and "On top of" not in capsys.readouterr().out
