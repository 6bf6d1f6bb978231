"""The files of a bake: free names, all or nothing, no trace of what would be untrue of the copy."""

import errno
import io
import json
import os
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from tests import unbaked
from tests.small import stack_of
from unlearn_core.delta import bake as baking
from unlearn_core.delta.bake import ABOUT, NOTE, bake, concepts_baked_into
from unlearn_core.delta.companions import Companion, placed
from unlearn_core.delta.format import save
from unlearn_core.delta.merge import combine_cat
from unlearn_core.errors import BadCheckpoint, BadDelta, BadSetting, UnlearnError


@pytest.fixture
def model(tmp_path):
    return unbaked.checkpoint(tmp_path / "in")


STACK = stack_of((unbaked.delta(), 1.0))


def names(folder):
    return sorted(f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file())


ALL = ["copy.safetensors", "copy.words.json", "copy.yaml", "words/merges.txt", "words/vocab.json"]


def test_the_copy_comes_with_everything_that_it_is_read_with(model, tmp_path):
    out = tmp_path / "new" / "copy.safetensors"
    done = bake(STACK, model, out)
    assert names(out.parent) == ALL
    assert (out.parent / "copy.yaml").read_text() == unbaked.YAML
    assert [p.name for p in done.beside] == ["copy.yaml", "copy.words.json", "words"]
    assert bake(STACK, model, out).beside == ()  # the same is there already, and the copy is this tool's own
    assert names(out.parent) == ALL


def test_hashes_go_and_the_copy_says_what_it_is(model, tmp_path):
    out = tmp_path / "copy.safetensors"
    bake(STACK, model, out)
    with safe_open(out, "pt") as file:
        texts = file.metadata()
    kept = {"author": "Zoë", "modelspec.title": "Fruits", "sd_merge_models": "{}"}
    assert {n: t for n, t in texts.items() if n not in (NOTE, ABOUT)} == kept
    assert texts[ABOUT] == "A changed copy of model.safetensors: it has forgotten banana."
    assert [row["concepts"] for row in json.loads(texts[NOTE])] == [["banana"]]


def test_the_ema_copy_is_left_out_and_everything_else_stays(model, tmp_path):
    out = tmp_path / "copy.safetensors"
    done = bake(STACK, model, out)
    before, after = load_file(model), load_file(out)
    twins = {n for n in before if n.startswith("model_ema.")}
    assert done.left_out == len(twins) == 8 and after.keys() == before.keys() - twins
    changed = {n for n in after if not torch.equal(before[n], after[n])}
    assert changed == {f"{unbaked.UNET}{unbaked.BLOCK}{n}.weight" for n in unbaked.LAYERS} and done.layers == 2
    assert done.bytes == out.stat().st_size < model.stat().st_size


TAKEN = {
    "copy.yaml": "'copy.yaml' is in",
    "copy.words.json": "'copy.words.json' is in",
    "words/vocab.json": "'words' is in",
    "words/one_more.json": "'words' is in",
    "words": "'words' is in",
}


@pytest.mark.parametrize("taken", TAKEN)
def test_a_name_that_is_taken_is_refused_and_nothing_is_touched(taken, model, tmp_path):
    out = tmp_path / "new" / "copy.safetensors"
    place = out.parent / taken
    place.parent.mkdir(parents=True)
    place.write_text("somebody's work")
    with pytest.raises(BadSetting, match=TAKEN[taken]):
        bake(STACK, model, out)
    assert names(out.parent) == [taken] and place.read_text() == "somebody's work"


def test_what_would_be_read_with_the_copy_but_is_not_the_sources_is_refused(model, tmp_path):
    model.with_suffix(".yaml").unlink()
    (tmp_path / "copy.yaml").write_text("model: {}")
    with pytest.raises(BadSetting, match="would be read with the copy"):
        bake(STACK, model, tmp_path / "copy.safetensors")
    assert not (tmp_path / "copy.safetensors").exists()


def test_another_checkpoint_is_never_replaced(model, tmp_path):
    other = unbaked.checkpoint(tmp_path / "other")
    before = other.read_bytes()
    for out in (other, tmp_path / "delta.safetensors"):
        save(unbaked.delta(), tmp_path / "delta.safetensors")
        with pytest.raises(BadSetting, match="is there already and is something else"):
            bake(STACK, model, out)
    assert other.read_bytes() == before


def test_a_delta_that_changes_no_bit_is_refused(model, tmp_path):
    with pytest.raises(BadDelta, match="would change no bit"):
        bake(stack_of((unbaked.delta(1e-11), 1.0)), model, tmp_path / "copy.safetensors")
    assert names(tmp_path) == sorted(f"in/{n}" for n in names(model.parent))


def test_a_folder_is_refused_in_words(tmp_path):
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(BadCheckpoint, match="is a folder"):
        bake(STACK, tmp_path, tmp_path / "copy.safetensors")


def test_no_room_is_told_before_the_work(model, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=2**20))
    monkeypatch.setattr(baking, "safe_open", lambda *_, **__: pytest.fail("the checkpoint was opened"))
    with pytest.raises(UnlearnError, match=r"has 1 MB free, but 4 MB are needed: make room"):
        bake(STACK, model, tmp_path / "copy.safetensors")


class Broken(io.FileIO):
    """A source that cannot be read to its end."""

    error: OSError | None = None

    def read(self, count=-1):
        if self.error and self.tell():
            raise self.error
        return b"" if self.tell() else super().read(count)


@pytest.mark.parametrize(
    "error, words",
    [(OSError(errno.EIO, "Input/output error"), "is not a readable .*Input/output error"), (None, "became shorter")],
)
def test_a_source_that_cannot_be_read_is_named_and_the_place_is_not_blamed(error, words, model, tmp_path, monkeypatch):
    def opened(path, mode="r"):
        file = Broken(path)
        file.error = error
        return file if path == model else open(path, mode)

    header = baking.raw_header(model)
    monkeypatch.setattr(baking, "read_header", lambda *_: None)
    monkeypatch.setattr(baking, "raw_header", lambda _: header)
    monkeypatch.setattr(baking, "open", opened, raising=False)
    with pytest.raises(BadCheckpoint, match=rf"'model\.safetensors' {words}"):
        bake(STACK, model, tmp_path / "new" / "copy.safetensors")
    assert names(tmp_path / "new") == []


@pytest.mark.parametrize(
    "number, words",
    [
        (errno.ENOSPC, "The disk of .*new is full"),
        (errno.EFBIG, "FAT32"),
        (errno.EIO, "The disk of .*new has failed"),
        (errno.EACCES, "cannot be written"),
    ],
)
def test_a_place_that_fails_is_named_and_the_source_is_not_blamed(number, words, model, tmp_path, monkeypatch):
    def failing(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("unlearn_core.delta.atomic.os.fsync", failing)
    with pytest.raises(UnlearnError, match=words) as told:
        bake(STACK, model, tmp_path / "new" / "copy.safetensors")
    assert not isinstance(told.value, BadCheckpoint) and "model.safetensors" not in str(told.value)
    assert names(tmp_path / "new") == []


def test_a_copy_that_was_not_written_as_it_should_be_gets_no_name(model, tmp_path, monkeypatch):
    monkeypatch.setattr(baking.NewFile, "settle", lambda self: 17)
    with pytest.raises(UnlearnError, match="not written as it should be"):
        bake(STACK, model, tmp_path / "new" / "copy.safetensors")
    assert names(tmp_path / "new") == []


def test_a_stop_in_the_middle_leaves_nothing(model, tmp_path):
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bake(STACK, model, tmp_path / "new" / "copy.safetensors", stop)
    assert names(tmp_path / "new") == []


def test_two_at_once_into_one_folder_share_what_lies_beside(model, tmp_path):
    """The second ends while the first is at work, which then finds its own companions in their places."""
    ours, theirs = tmp_path / "new" / "copy.safetensors", tmp_path / "new" / "other.safetensors"
    bake(STACK, model, ours, lambda: theirs.exists() or bake(STACK, model, theirs))
    assert names(ours.parent) == sorted([*ALL, "other.safetensors", "other.words.json", "other.yaml"])


def test_what_another_program_places_in_the_same_moment_is_no_fault_and_stays_its_own(tmp_path, monkeypatch):
    file, folder = Companion(tmp_path / "c.yaml", {"": b"x"}), Companion(tmp_path / "words", {"a.txt": b"y"})
    put = Companion.put

    def late(self):
        put(self)
        put(self)

    monkeypatch.setattr(Companion, "put", late)
    with pytest.raises(KeyboardInterrupt), placed([file, folder], lambda: False):
        raise KeyboardInterrupt
    assert names(tmp_path) == ["c.yaml", "words/a.txt"]


def test_a_copy_that_fails_takes_away_nothing_that_another_program_has_placed(model, tmp_path, monkeypatch):
    """Once the very same, and once something else, in a name that was free when the work began."""
    out = tmp_path / "new" / "copy.safetensors"

    def failing(*_):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch, pytest.raises(UnlearnError, match="has failed"):
        bake(STACK, model, out, lambda: out.exists() or (bake(STACK, model, out), patch.setattr("os.replace", failing)))
    assert names(out.parent) == ALL

    def taken():
        (tmp_path / "next" / "words").mkdir(exist_ok=True)
        (tmp_path / "next" / "words" / "mine.txt").write_text("mine")

    with pytest.raises(UnlearnError, match="words' cannot be written"):
        bake(STACK, model, tmp_path / "next" / "copy.safetensors", taken)
    assert names(tmp_path / "next") == ["words/mine.txt"]


def test_the_command_says_what_it_left_out_and_what_lies_beside(model, tmp_path, capsys):
    from unlearn_core.cli.main import main

    save(unbaked.delta(), tmp_path / "banana.safetensors")
    out = tmp_path / "new" / "copy.safetensors"
    command = ["stack", str(tmp_path / "banana.safetensors"), "--into", str(model), "--out", str(out)]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "baked banana into" in said and "EMA copy of the weights (8 tensors)" in said
    assert f"beside it: {out.parent / 'words'}" in said
    (out.parent / "copy.yaml").write_text("mine")
    assert main(command) == 1
    assert "'copy.yaml' is in" in capsys.readouterr().err and (out.parent / "copy.yaml").read_text() == "mine"


def test_a_header_that_is_too_large_is_refused_before_it_is_read(tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes((2**40).to_bytes(8, "little") + b"{}")
    with pytest.raises(BadCheckpoint, match="its header is too large"):
        bake(STACK, file, tmp_path / "copy.safetensors")
    assert names(tmp_path) == ["model.safetensors"]


@pytest.mark.parametrize(("strength", "gone"), [(1.0, True), (0.8, True), (0.5, False), (1e-3, False), (-2.0, False)])
def test_only_what_is_strong_enough_counts_as_forgotten(model, tmp_path, strength, gone):
    out = tmp_path / "copy.safetensors"
    done = bake(stack_of((unbaked.delta(), strength)), model, out)
    words = "banana" if strength == 1 else f"banana at strength {strength:g}"
    assert done.concepts == (words,) and concepts_baked_into(out) == (["banana"] if gone else [])
    with safe_open(out, "pt") as file:
        assert file.metadata()[ABOUT].endswith("it has forgotten banana." if gone else f": {words}.")


def test_strengths_inside_a_merge_count_too(model, tmp_path):
    out = tmp_path / "copy.safetensors"
    bake(stack_of((combine_cat(stack_of((unbaked.delta(), -2.0))), 1.0)), model, out)
    assert concepts_baked_into(out) == []


def test_a_tokenizer_that_cannot_be_looked_into_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    source, real = unbaked.checkpoint(tmp_path / "from"), os.scandir

    def refused(place):
        if str(place).endswith("words"):
            raise PermissionError(13, "Permission denied", str(place))
        return real(place)

    monkeypatch.setattr(os, "scandir", refused)
    (tmp_path / "to").mkdir()
    with pytest.raises(BadCheckpoint, match="'words' beside the checkpoint cannot be read .Permission denied."):
        bake(stack_of((unbaked.delta(), 1.0)), source, tmp_path / "to" / "out.safetensors")
    assert list((tmp_path / "to").iterdir()) == []
