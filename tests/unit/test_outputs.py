"""Outputs of the command line: never an input, never each other, refused before anything is loaded."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from tests.small import A, B, C
from unlearn_core import BadSetting, ForgetConfig, load, save
from unlearn_core.cli import stack as stack_command
from unlearn_core.cli.main import main
from unlearn_core.delta.format import Delta
from unlearn_core.delta.outputs import COPY, DELTA, Output, check_outputs, delta_size, may_be_replaced, size_of
from unlearn_core.delta.paths import beside, each_its_own, read_with
from unlearn_core.demo.recognition import CHECKPOINT
from unlearn_core.picture_file import save_pictures


@pytest.fixture(autouse=True)
def nothing_is_loaded(monkeypatch):
    monkeypatch.setattr(
        "unlearn_core.standalone.model.StandaloneModel", lambda *_: pytest.fail("the checkpoint was loaded")
    )


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The working folder, with a checkpoint, what lies beside it, a diffusers folder and two deltas."""
    monkeypatch.chdir(tmp_path)
    for suffix in (".safetensors", ".yaml", ".words.json"):
        shutil.copyfile(beside(CHECKPOINT, suffix), tmp_path / f"model{suffix}")
    shutil.copytree(CHECKPOINT.parent / "tokenizer", tmp_path / "tokenizer")
    (tmp_path / "folder" / "unet").mkdir(parents=True)
    (tmp_path / "folder" / "model_index.json").write_text("{}")
    (tmp_path / "folder" / "unet" / "weights.safetensors").write_bytes(b"weights")
    (tmp_path / "v1.5").mkdir()
    (tmp_path / "blob.safetensors").write_bytes(b"weights")
    (tmp_path / "folder" / "unet" / "linked.safetensors").symlink_to(tmp_path / "blob.safetensors")
    save(A, tmp_path / "a.safetensors")
    save(B, tmp_path / "b.safetensors")
    (tmp_path / "link.safetensors").symlink_to("model.safetensors")
    os.link(tmp_path / "model.safetensors", tmp_path / "hard.safetensors")
    (tmp_path / "there.safetensors").mkdir()
    (tmp_path / "to_blob.safetensors").symlink_to("blob.safetensors")
    (tmp_path / "taken.yaml").write_text("somebody's")
    save_file({"x": torch.zeros(1)}, tmp_path / "copy.safetensors", {COPY: "[]"})
    os.mkfifo(tmp_path / "pipe.safetensors")
    return tmp_path


def contents(folder):
    return {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()}


FORGET = "forget --concept cat --checkpoint"
REFUSED = {
    f"{FORGET} model.safetensors --out model.safetensors": "would overwrite the checkpoint 'model.safetensors'",
    f"{FORGET} model.safetensors --out folder/../model.safetensors": "would overwrite the checkpoint",
    f"{FORGET} model.safetensors --out link.safetensors": "would overwrite the checkpoint",
    f"{FORGET} link.safetensors --out model.safetensors": "would overwrite the checkpoint",
    f"{FORGET} model.safetensors --out hard.safetensors": "would overwrite the checkpoint",
    f"{FORGET} model.safetensors --out o.safetensors --report model.words.json": "--report would overwrite",
    f"{FORGET} model.safetensors --out o.safetensors --report model.yaml": "'model.yaml'",
    f"{FORGET} model.safetensors --out o.safetensors --report tokenizer/vocab.json": "folder 'tokenizer'",
    f"{FORGET} b.safetensors --out o.safetensors --report b.words.json": "--report would overwrite",
    f"{FORGET} folder --out folder/unet/weights.safetensors": "would overwrite the checkpoint 'folder'",
    f"{FORGET} folder --out blob.safetensors": "would overwrite the checkpoint 'folder'",
    f"{FORGET} folder --out o.safetensors --report folder/model_index.json": "would overwrite the checkpoint",
    f"{FORGET} v1.5 --out o.safetensors --report v1.5.words.json": "the checkpoint's 'v1.5.words.json'",
    f"{FORGET} ./v1.5/ --out o.safetensors --report v1.5.yaml": "would overwrite the checkpoint's 'v1.5.yaml'",
    f"{FORGET} model.safetensors --stack a.safetensors:0.5 --out a.safetensors": "would overwrite the delta",
    f"{FORGET} model.safetensors --out o.safetensors --preview x.png --report x.png": "name the same file",
    f"{FORGET} model.safetensors --out o.ckpt": "has to end in .safetensors",
    f"{FORGET} model.safetensors --out o.safetensors --preview o.jpg": "has to end in .png",
    f"{FORGET} model.safetensors --out o.safetensors --report o.txt": "has to end in .json",
    f"{FORGET} model.safetensors --out there.safetensors": "is the folder",
    "preview --prompts x --checkpoint model.safetensors --out model.safetensors": "would overwrite the checkpoint",
    "preview --prompts x --checkpoint model.safetensors --out x.jpg": "has to end in .png",
    "stack a.safetensors b.safetensors --out b.safetensors": "would overwrite the delta 'b.safetensors'",
    "stack a.safetensors --checkpoint model.safetensors --out model.safetensors": "would overwrite the checkpoint",
    "stack a.safetensors --into model.safetensors --out hard.safetensors": "would overwrite the checkpoint",
    "stack a.safetensors --out o.png": "has to end in .safetensors",
    "stack a.safetensors --method svd --rank 0 --out o.safetensors": "rank 0",
    "stack a.safetensors b.safetensors --without cat --retrain --checkpoint folder --out a.safetensors": "be a folder",
    "demo --out a.safetensors": "be a folder",
    f"{FORGET} model.safetensors --out blob.safetensors": "is there already and is something else",
    f"{FORGET} model.safetensors --out copy.safetensors": "is there already and is something else",
    f"{FORGET} model.safetensors --out to_blob.safetensors": "is there already and is something else",
    f"{FORGET} model.safetensors --out pipe.safetensors": "is a device and not a file",
    f"{FORGET} model.safetensors --out {'x' * 300}.safetensors": "cannot be a file",
    f"{FORGET} model.safetensors --out o.safetensors.": "has to end in .safetensors",
    f"{FORGET} model.safetensors --out o.safetensors --preview P.png --report p.png": "name the same file",
    f"{FORGET} model.safetensors --out o.safetensors --preview there.safetensors/../p.jpeg": "has to end in .png",
    f"{FORGET} model.safetensors --out o.safetensors --report there.safetensors": "is the folder",
    "preview --prompts x --checkpoint model.safetensors --out there.safetensors": "is the folder",
    "stack a.safetensors --out model.safetensors": "is there already and is something else",
    "stack a.safetensors --out copy.safetensors": "is there already and is something else",
    "stack a.safetensors --into model.safetensors --out b.safetensors": "is there already and is something else",
    "stack a.safetensors --into model.safetensors --out taken.safetensors": "'taken.yaml' is in",
    "stack a.safetensors --into folder --out o.safetensors": "is a folder",
}


@pytest.mark.parametrize("command", REFUSED)
def test_an_output_that_cannot_be_meant_is_refused_and_nothing_is_touched(command, place, capsys):
    before = contents(place)
    assert main(command.split()) == 1
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(said) == 1 and REFUSED[command] in said[0]
    assert contents(place) == before


def test_demo_does_not_overwrite_its_stack(place, capsys):
    shutil.copyfile("a.safetensors", "forget-frog.safetensors")
    assert main(["demo", "--concept", "frog", "--out", ".", "--stack", "forget-frog.safetensors"]) == 1
    assert "would overwrite the delta" in capsys.readouterr().err


def test_a_new_file_beside_its_inputs_is_fine(place):
    inputs = [*read_with("folder"), *read_with("."), *read_with("missing.safetensors"), ("the delta", place / "a")]
    outputs = ("--out", place / "folder" / "o.safetensors", ".safetensors"), ("--preview", place / "o.PNG", ".png")
    check_outputs([Output(*o) for o in (*outputs, ("--report", None, ".json"))], inputs)
    with pytest.raises(BadSetting, match=r"missing\.safetensors"):
        check_outputs([Output("--out", place / "missing.safetensors")], inputs)


@pytest.mark.parametrize(
    "checkpoint, name",
    [
        ("model.safetensors", "model"),
        ("new.v1.5.safetensors", "new.v1.5"),  # a copy that is not there yet
        ("folder", "folder"),
        ("v1.5", "v1.5"),
        ("v1.5/", "v1.5"),
        ("v1.5/.", "v1.5"),
        ("folder/unet/..", "folder"),
        ("folder/../v1.5", "v1.5"),
        ("x\0.y", "x\0"),
        ("x" * 300 + ".y", "x" * 300),
    ],
)
def test_what_lies_beside_a_checkpoint_has_its_name(checkpoint, name, place):
    found = beside(Path(checkpoint), ".words.json")
    assert found.name == f"{name}.words.json" and found.absolute().parent.resolve() == place.resolve()


def test_the_working_folder_has_its_own_name_too(place, monkeypatch):
    monkeypatch.chdir("v1.5")
    assert beside(Path("."), ".yaml") == place / "v1.5.yaml" == beside(Path("../v1.5"), ".yaml").resolve()


def test_two_outputs_that_are_linked_are_one(place):
    (place / "p.png").write_bytes(b"")
    os.link(place / "p.png", place / "q.png")
    with pytest.raises(BadSetting, match="--one and --two name the same file"):
        check_outputs([Output("--one", place / "p.png", ".png"), Output("--two", place / "q.png", ".png")], [])


def test_what_the_stack_has_forgotten_is_refused_before_the_checkpoint_is_loaded(place, capsys):
    wish = "--stack a.safetensors --concept Banana --out o.safetensors"
    assert main(f"forget --checkpoint model.safetensors {wish}".split()) == 1
    assert "already forgotten 'banana'" in capsys.readouterr().err


def test_names_that_would_meet_get_numbers():
    assert each_its_own(["my_delta", "x", "My_Delta", "my_delta", "my_delta_2"]) == [
        *("my_delta", "x", "My_Delta_2", "my_delta_3", "my_delta_2_2")
    ]


def test_deltas_of_one_name_do_not_overwrite_each_other_when_made_anew(place, capsys, monkeypatch):
    """The training itself is left out: each old delta comes back as the new one."""

    def anew(host, removal, way):
        stack = removal.before
        for entry in removal.after:
            made = SimpleNamespace(delta=Delta(entry.delta.factors, entry.delta.info), report={"stopped": ""})
            stack = stack.with_delta(way.keep(entry, made), entry.strength)
        return stack

    monkeypatch.setattr(stack_command, "opened", lambda *_: SimpleNamespace())
    monkeypatch.setattr(stack_command, "print_reports", lambda *_: None)
    monkeypatch.setattr(stack_command, "recorded", lambda _: ForgetConfig(concept="owl"))
    monkeypatch.setattr(stack_command, "retrain", anew)
    for folder, made in (("one", B), ("two", C)):
        save(made, place / folder / "my delta.safetensors")
    deltas = ["a.safetensors", "one/my delta.safetensors", "two/my delta.safetensors"]
    new = ["--without", "a", "--retrain", "--checkpoint", "model.safetensors", "--out", "new"]
    assert main(["stack", *deltas, *new]) == 0
    found = {f.name: load(f) for f in (place / "new").iterdir()}
    assert {n: d.info.concept for n, d in found.items()} == {
        "my_delta.safetensors": "frog",
        "my_delta_2.safetensors": "cat",
    }
    assert "my_delta_2" in capsys.readouterr().out
    assert main(["stack", *deltas, *new]) == 1
    assert "there already" in capsys.readouterr().err


def test_a_delta_that_cannot_be_made_again_is_told_before_the_checkpoint_is_loaded(place, capsys):
    new = ["--without", "banana", "--retrain", "--checkpoint", "model.safetensors", "--out", "new"]
    assert main(["stack", "a.safetensors", "b.safetensors", *new]) == 1
    assert "cannot be made anew" in capsys.readouterr().err


ROOM = {
    f"{FORGET} model.safetensors --out new/o.safetensors": 5,
    f"{FORGET} model.safetensors --out new/o.safetensors --preview new/p.png --report new/r.json": 14,
    "forget --concept cat,dog --checkpoint model.safetensors --out new/o.safetensors --preview new/p.png": 22,
    "preview --prompts x --checkpoint model.safetensors --out new/p.png": 12,
    "stack a.safetensors b.safetensors --out new/o.safetensors": 5,
    "stack a.safetensors --into model.safetensors --out new/o.safetensors": 15,
    "stack a.safetensors b.safetensors --without banana --retrain --checkpoint model.safetensors --out new": 5,
    "demo --out new": 14,
}


@pytest.mark.parametrize("command", ROOM)
def test_a_disk_without_room_is_told_before_anything_is_loaded(command, place, capsys, monkeypatch):
    """The megabytes that are free and those that are needed, of all outputs on one disk together."""
    monkeypatch.setattr("unlearn_core.cli.stack.recorded", lambda _: None)
    asked = []
    monkeypatch.setattr("shutil.disk_usage", lambda folder: asked.append(folder) or SimpleNamespace(free=3 * 2**20))
    assert main(command.split()) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"has 3 MB free, but {ROOM[command]} MB are needed: make room" in said
    assert asked == [place] and not (place / "new" / "o.safetensors").exists()


def test_a_disk_that_does_not_say_how_full_it_is_is_no_hindrance(place, monkeypatch):
    def unknown(_):
        raise OSError("not supported")

    monkeypatch.setattr("shutil.disk_usage", unknown)
    assert main(["stack", "a.safetensors", "b.safetensors", "--out", "new/o.safetensors"]) == 0


@pytest.mark.parametrize("command", ROOM)
def test_a_place_without_the_right_to_write_is_told_before_anything_is_loaded(command, place, capsys, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("unlearn_core.cli.stack.recorded", lambda _: None)
    monkeypatch.setattr("pathlib.Path.touch", refused)
    assert main(command.split()) == 1
    assert "Cannot write into new (Permission denied): allow it, or choose another folder." in capsys.readouterr().err


def test_new_names_that_some_disk_takes_for_one_are_refused(tmp_path):
    def ends(one, other):
        with pytest.raises(BadSetting, match="--one and --two name the same file"):
            check_outputs([Output("--one", tmp_path / one), Output("--two", tmp_path / other)], [])

    ends("P.png", "p.png")
    ends("p.png", "p.png. .")
    ends("caf\u00e9.png", "cafe\u0301.png")
    ends("p.png", "x/../p.png")
    check_outputs([Output("--one", tmp_path / "p.png"), Output("--two", tmp_path / "q" / "p.png")], [])


def test_only_what_this_tool_has_made_is_replaced(place):
    made = {"a.safetensors": True, "copy.safetensors": False, "model.safetensors": False, "blob.safetensors": False}
    (place / "empty.safetensors").touch()
    for name, expected in {**made, "empty.safetensors": True}.items():
        assert may_be_replaced(place / name, "unlearn.format") is expected, name
    assert may_be_replaced(place / "copy.safetensors", COPY)


def test_the_size_of_a_delta_is_guessed_from_the_checkpoints(place):
    assert size_of(place / "model.safetensors") == CHECKPOINT.stat().st_size
    assert size_of(place / "folder") == 2 * len(b"weights") and size_of(place / "nowhere") == 0
    real = (CHECKPOINT.parent / "deltas" / "forget_banana.safetensors").stat().st_size
    assert real < delta_size(CHECKPOINT, 8) < real + 2**21


@pytest.mark.parametrize("name", ["nul.png", "COM1.png", "a:b.png", "con"])
def test_windows_own_names_are_refused_there(name, tmp_path, monkeypatch):
    check_outputs([Output("--out", tmp_path / name)], [])
    monkeypatch.setattr("unlearn_core.delta.outputs.os", SimpleNamespace(name="nt"))
    with pytest.raises(BadSetting, match="no file can be called"):
        check_outputs([Output("--out", tmp_path / name)], [])


@pytest.mark.parametrize(
    "command",
    [
        "forget --concept cat --checkpoint model.safetensors --out {}/o.safetensors",
        "stack a.safetensors b.safetensors --out {}.safetensors",
        "stack a.safetensors --into model.safetensors --out {}/o.safetensors",
        "stack a.safetensors b.safetensors --without a --retrain --checkpoint model.safetensors --out {}",
    ],
)
def test_a_path_that_safetensors_cannot_open_is_refused_before_the_work(command, place, capsys):
    before = sorted(place.iterdir())
    assert main([part.format(os.fsdecode(b"f\xff")) for part in command.split()]) == 1
    assert "holds bytes that are no text, so the file could not be read again" in capsys.readouterr().err
    assert sorted(place.iterdir()) == before


def test_a_strangers_picture_and_table_stay(place, capsys):
    Image.new("RGB", (8, 8)).save(place / "photo.png")
    (place / "notes.json").write_text('{"concept": "my notes"}')
    before = contents(place)
    for more in (["--preview", "photo.png"], ["--report", "notes.json"]):
        assert (
            main(["forget", "--concept", "cat", "--checkpoint", "model.safetensors", "--out", "o.safetensors", *more])
            == 1
        )
        assert "is there already and is something else" in capsys.readouterr().err
    assert main(["preview", "--prompts", "x", "--checkpoint", "model.safetensors", "--out", "photo.png"]) == 1
    assert "is something else" in capsys.readouterr().err and contents(place) == before


def test_what_this_tool_has_written_may_be_replaced(place):
    save_pictures(place / "p.png", ["a cat"], torch.zeros(1, 3, 8, 8), None)
    (place / "r.json").write_text(json.dumps({"concept": "cat", "check": {}, "seed": 0, "steps": 0}))
    (place / "empty.png").touch()
    for name in ("p.png", "r.json", "empty.png"):
        assert may_be_replaced(place / name, DELTA), name
    Image.new("RGB", (8, 8)).save(place / "a.png")
    assert not may_be_replaced(place / "a.png", DELTA), "an artist's own card for the delta beside it"


def test_a_merge_does_not_replace_the_delta_of_something_else(place, capsys):
    save(C, place / "c.safetensors")
    before = contents(place)
    assert main(["stack", "a.safetensors", "b.safetensors", "--out", "c.safetensors"]) == 1
    assert "c.safetensors' is there already, a delta of 'cat'" in capsys.readouterr().err and contents(place) == before
    again = ["stack", "a.safetensors", "b.safetensors", "--out", "both.safetensors"]
    assert main(again) == main(again) == 0


def test_the_same_request_may_be_made_again_as_it_is_typed(place):
    """The file holds "ink" where "ink style" was asked for."""
    made = Delta(dict(A.factors), replace(A.info, concept="ink", kind="style", config={"concept": "ink style"}))
    save(made, place / "ink.safetensors")
    for concept in ("ink", "ink style", "Ink Style"):
        check_outputs([Output("--out", place / "ink.safetensors", ".safetensors", concept=concept)], [])
    with pytest.raises(BadSetting, match="a delta of 'ink'"):
        check_outputs([Output("--out", place / "ink.safetensors", ".safetensors", concept="blob")], [])


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("--rank 4 --out m.safetensors", "--rank goes with --method svd"),
        ("--method svd --rank 0 --out m.safetensors", "The rank 0 is too small"),
        ("--into model.safetensors --checkpoint model.safetensors --out m.safetensors", "looks at nothing"),
        ("--into none.safetensors --out m.safetensors", "There is no checkpoint at none.safetensors: check the name"),
    ],
)
def test_options_without_effect_are_refused(more, said, place, capsys):
    assert main(["stack", "a.safetensors", "b.safetensors", *more.split()]) == 1
    assert said in capsys.readouterr().err and not (place / "m.safetensors").exists()


def test_nothing_is_made_where_the_checkpoint_is_missing(place, capsys):
    assert (
        main(["forget", "--concept", "cat", "--checkpoint", "none.safetensors", "--out", "new/one/o.safetensors"]) == 1
    )
    assert "There is no checkpoint at none.safetensors: check the name and the folder." in capsys.readouterr().err
    assert not (place / "new").exists()
