"""Ctrl-C when one of several things is made already: what is left is told, and nothing more is begun."""

import json
from importlib import import_module

import pytest

from tests.unit.test_cli import FORGET, QUICK, replaced
from tests.unit.test_resume_cli import LIST, ctrl_c, stack_of_three
from unlearn_core import load
from unlearn_core.cli.main import main
from unlearn_core.cli.unfinished import how_a_list_goes_on
from unlearn_core.demo.recognition import CHECKPOINT


@pytest.fixture(autouse=True)
def tiny():
    with replaced():
        yield


@pytest.fixture
def late(monkeypatch):
    """Call it with a function of the product: Ctrl-C comes when it has done its work for the n-th time."""

    def at(place, number=1):
        module, name = place.rsplit(".", 1)
        whole, calls = getattr(import_module(module), name), []

        def pressed(*args):
            made = whole(*args)
            calls.append(args)
            if len(calls) == number:
                ctrl_c()
            return made

        monkeypatch.setattr(place, pressed)

    return at


def names(folder):
    return sorted(f.name for f in folder.iterdir())


@pytest.mark.parametrize("place", ["save", "write_pictures", "write_json"])
def test_what_is_left_of_a_list_is_told_and_goes_on(place, late, tmp_path, capsys):
    whole, new = tmp_path / "whole", tmp_path / "new"

    def command(folder):
        files = ["--out", str(folder / "o.safetensors"), "--preview", str(folder / "p.png")]
        return [*LIST, *files, "--report", str(folder / "r.json")]

    assert main(command(whole)) == 0
    capsys.readouterr()
    late(f"unlearn_core.cli.forget.{place}")
    assert main(command(new)) == 130
    said = capsys.readouterr()
    assert said.err.splitlines()[-1] == (
        "Stopped: 'frog' was not made. Add --resume to the same command to go on from here. "
        f"Saved in {new}: 'o_banana.safetensors'."
    )
    assert "1 of 2: banana" in said.out and "Next:" not in said.out
    assert names(new) == ["o_banana.safetensors", "p_banana.png", "r_banana.json"]
    assert main([*command(new), "--resume"]) == 0
    for name in ("o_banana.safetensors", "o_frog.safetensors"):
        assert (new / name).read_bytes() == (whole / name).read_bytes()


def test_a_stop_at_the_last_of_a_list_comes_too_late(late, tmp_path, capsys):
    late("unlearn_core.cli.forget.save", 2)
    assert main([*LIST, *QUICK, "--out", str(tmp_path / "o.safetensors")]) == 0
    said = capsys.readouterr()
    assert "Next: put these 2 files" in said.out and "Stopped" not in said.out + said.err
    assert names(tmp_path) == ["o_banana.safetensors", "o_frog.safetensors"]


def test_a_stop_at_one_that_is_withheld_says_nothing_of_files(late, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("unlearn_core.method.forget.too_harmful", lambda *_: "Nothing was handed on.")
    late("unlearn_core.cli.forget.write_pictures")
    files = ["--out", str(tmp_path / "o.safetensors"), "--preview", str(tmp_path / "p.png")]
    assert main([*LIST, *QUICK, *files]) == 130
    said = capsys.readouterr().err
    assert "'frog' was not made." in said and "Saved in" not in said and not list(tmp_path.glob("*.safetensors"))


def test_what_is_finished_already_is_not_said_to_be_left(late, tmp_path, monkeypatch, capsys):
    """The first was withheld, the second is there, and the first is looked at again."""
    out = tmp_path / "o.safetensors"
    command = [*LIST, *QUICK, "--out", str(out), "--preview", str(tmp_path / "p.png")]
    harmful = ["It harms.", ""]
    monkeypatch.setattr("unlearn_core.method.forget.too_harmful", lambda *_: harmful.pop(0))
    assert main(command) == 1
    capsys.readouterr()
    harmful = ["It harms."]
    late("unlearn_core.cli.forget.write_pictures")
    assert main([*command, "--resume"]) == 1
    assert "'frog' is finished already" in (said := capsys.readouterr().err) and "Stopped" not in said


@pytest.mark.parametrize(
    "left, saved, words",
    [
        (["cat"], [], "Stopped: 'cat' was not made. Add --resume to the same command to go on from here."),
        (["cat", "dog"], [], "Stopped: 'cat' and 'dog' were not made."),
        (["a", "b", "c"], ["x", "y"], "Stopped: 'a', 'b' and 'c' were not made."),
        (["a", "b", "c", "d"], ["x", "y"], "Stopped: 'a', 'b', 'c' and 1 more were not made."),
        (["a"], ["x", "y", "z", "u", "v"], "/new: 'x', 'y', 'z' and 2 more."),
    ],
)
def test_the_sentence_about_a_list(left, saved, words, tmp_path):
    assert words in how_a_list_goes_on(left, [tmp_path / "new" / name for name in saved])


def test_a_stop_before_the_demo_counts_is_heeded_and_it_counts_when_it_goes_on(late, tmp_path, monkeypatch, capsys):
    demo = ["demo", "--out", str(tmp_path), "--set", "sampling_steps=2", "--anchor", "pear", *QUICK]
    shares = {f"{what}_{when}": 0.5 for what in ("target", "others", "styles") for when in ("before", "after")}
    counted = []
    monkeypatch.setattr("unlearn_core.demo.recognition.measure", lambda *_: counted.append(1) or shares)
    late("unlearn_core.cli.forget.write_json")
    assert main(demo) == 130
    assert "Stopped before 'banana' was counted. Add --resume to the same command" in capsys.readouterr().err
    assert counted == [] and (tmp_path / "forget-banana.safetensors").exists()
    assert main([*demo, "--resume"]) == 0 and counted == [1]
    assert json.loads((tmp_path / "forget-banana.json").read_text())["classifier"] == shares


@pytest.mark.parametrize("ready, words", [("frog", "1 of 2 deltas are ready, in "), ("dog frog", "before the check")])
def test_deltas_that_are_made_anew_stop_after_any_of_them(ready, words, late, tmp_path, capsys):
    retrain = ["stack", *stack_of_three(tmp_path), "--without", "banana", "--retrain", "--checkpoint", str(CHECKPOINT)]
    whole, new = tmp_path / "whole", tmp_path / "new"
    assert main([*retrain, "--out", str(whole)]) == 0
    capsys.readouterr()
    late("unlearn_core.delta.format.save", len(ready.split()))
    assert main([*retrain, "--out", str(new)]) == 130
    told = capsys.readouterr()
    assert words in told.err and "check, " not in told.out
    assert [f.stem for f in sorted(new.glob("*.safetensors"))] == ready.split()
    assert main([*retrain, "--out", str(new)]) == 0 and "check, made anew" in capsys.readouterr().out
    assert {f.name: f.read_bytes() for f in new.iterdir()} == {f.name: f.read_bytes() for f in whole.iterdir()}


def test_a_balanced_stack_stops_before_the_check(late, tmp_path, capsys):
    files = []
    for concept, anchor in (("banana", "pear"), ("frog", "cat")):
        files.append(str(tmp_path / f"{concept}.safetensors"))
        wish = ["--concept", concept, "--anchor", anchor, *QUICK, "--out", files[-1]]
        assert main([*FORGET, *wish, *(o for f in files[:-1] for o in ("--stack", f))]) == 0
    capsys.readouterr()
    late("unlearn_core.cli.stack.balance")
    out = tmp_path / "one.safetensors"
    assert main(["stack", *files, "--balance", "--checkpoint", str(CHECKPOINT), "--out", str(out)]) == 130
    told = capsys.readouterr()
    assert "Stopped before the check" in told.err and "check, " not in told.out
    assert load(out).info.concepts == ("banana", "frog")
