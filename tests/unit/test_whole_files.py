"""Whatever fails, and whenever: a folder holds the old files or the new ones, whole, and nothing else."""

import builtins
import errno
import io
import json
import os
import shutil
import signal
import time
from types import SimpleNamespace

import pytest

from tests import unbaked
from tests.small import stack_of
from unlearn_core.delta import leftovers
from unlearn_core.delta.atomic import whole_file, write_json, write_whole
from unlearn_core.delta.bake import bake
from unlearn_core.delta.format import load, save
from unlearn_core.delta.leftovers import new_name, sweep
from unlearn_core.errors import UnlearnError
from unlearn_core.picture_file import save_pictures

STACK = stack_of((unbaked.delta(), 1.0))
POSIX = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked, and locks are those of POSIX")


class Late(KeyboardInterrupt):
    """Comes when the call has done its work."""


class Fault:
    """Counts calls of the system that write, of all kinds or of one, and raises at one of them."""

    def __init__(self, patch, error, at=None):
        self.count, self.error, self.at = 0, error, at
        for name in ("replace", "rename", "link", "mkdir"):
            patch.setattr(os, name, self.before(getattr(os, name)))
        patch.setattr(os, "fsync", self.before(lambda _: None))  # the real one only takes time
        opened = builtins.open

        def counted(file, mode="r", *args, **options):
            if not set(mode) & set("wxa"):
                return opened(file, mode, *args, **options)
            self()
            made = Counted(opened(file, mode, *args, **options), self)
            self(late=True)
            return made

        patch.setattr(builtins, "open", counted)
        patch.setattr(io, "open", counted)

    def __call__(self, late=False):
        self.count += not late
        if self.count == self.at and late == (self.error is Late):
            raise self.error() if isinstance(self.error, type) else OSError(self.error, os.strerror(self.error))

    def before(self, call):
        def counted(*args, **options):
            self()
            result = call(*args, **options)
            self(late=True)
            return result

        return counted


class Counted:
    """A file whose writes are counted."""

    def __init__(self, file, fault):
        self._file, self._fault = file, fault

    def write(self, data):
        self._fault()
        self._file.write(data)
        self._fault(late=True)
        return len(data)

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()


def contents(folder):
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Makes a folder with a checkpoint, a delta and a report, the same bytes each time; returns the checkpoint."""
    made = tmp_path_factory.mktemp("made")
    unbaked.checkpoint(made / "in")
    save(unbaked.delta(), made / "old.safetensors")
    (made / "old.json").write_text("{}")

    def prepare(folder):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(made, folder)
        return folder / "in" / "model.safetensors"

    return prepare


TASKS = {
    "save over an old delta": lambda folder, model: save(unbaked.delta(0.5), folder / "old.safetensors"),
    "save into a new folder": lambda folder, model: save(unbaked.delta(0.5), folder / "new" / "x.safetensors"),
    "write a report": lambda folder, model: write_json(folder / "old.json", {"a": 1}),
    "bake into another folder": lambda folder, model: bake(STACK, model, folder / "new" / "copy.safetensors"),
    "bake beside the checkpoint": lambda folder, model: bake(STACK, model, folder / "in" / "copy.safetensors"),
}


def undisturbed(task, folder, model):
    """(number of the calls that write, what is in the folder afterwards)."""
    with pytest.MonkeyPatch.context() as patch:
        calls = Fault(patch, errno.EIO)
        TASKS[task](folder, model)
    return calls.count, contents(folder)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EACCES, KeyboardInterrupt, Late])
@pytest.mark.parametrize("task", TASKS)
def test_a_fault_at_any_call_leaves_all_as_before_or_all_as_after(task, error, prepared, tmp_path):
    folder, failed = tmp_path / "f", 0
    model = prepared(folder)
    before = contents(folder)
    calls, after = undisturbed(task, folder, model)
    assert calls > 3 and before != after
    for number in range(1, calls + 1):
        model = prepared(folder)
        with pytest.MonkeyPatch.context() as patch:
            fault = Fault(patch, error, number)
            try:
                TASKS[task](folder, model)
            except (UnlearnError, KeyboardInterrupt):
                failed += 1
        assert fault.count >= number
        found = contents(folder)
        assert found in (before, after), f"call {number}: {sorted(found)}"
        assert not list(folder.rglob(".*"))
    assert failed >= 0.6 * calls  # not where only a new name is hurried onto the disk, or another way is there


@POSIX
@pytest.mark.parametrize(
    "task", ["save over an old delta", pytest.param("bake into another folder", marks=pytest.mark.full)]
)
def test_a_kill_at_any_call_leaves_no_half_file_and_the_next_writer_sweeps(task, prepared, tmp_path):
    folder = tmp_path / "f"
    model = prepared(folder)
    before = contents(folder)
    calls, after = undisturbed(task, folder, model)
    for number in range(1, calls + 1):
        model = prepared(folder)
        killed_at(number, lambda: TASKS[task](folder, model))  # noqa: B023 - it runs at once
        found = {n: d for n, d in contents(folder).items() if "/.unlearn-" not in f"/{n}"}
        assert found.keys() >= before.keys()
        assert all(d in (before.get(n), after.get(n)) for n, d in found.items())
        assert "new/copy.safetensors" not in found or found == after  # never a copy without what belongs to it
        TASKS[task](folder, model)
        assert contents(folder) == after


def killed_at(number, task):
    """Run a task in a process of its own that ends by SIGKILL at the n-th call of the system."""
    child = os.fork()
    if child:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        return
    try:
        with pytest.MonkeyPatch.context() as patch:
            fault = Fault(patch, errno.EIO)
            fault.at, fault.error = number, Killed
            task()
    finally:
        os._exit(1)


class Killed(Exception):
    def __init__(self):
        os.kill(os.getpid(), signal.SIGKILL)


# Leftovers of the dead


def aged(file, seconds):
    then = time.time() - seconds
    os.utime(file, (then, then))
    return file


def a_dead_process():
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    return child


@POSIX
def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(tmp_path):
    dead, own = a_dead_process(), os.getpid()
    gone = [tmp_path / f".unlearn-{dead}-{'0' * 16}.tmp", tmp_path / f".unlearn-{'1' * 16}.tmp"]
    stay = [
        tmp_path / f".unlearn-{own}-{'2' * 16}.tmp",  # its writer lives
        tmp_path / f".unlearn-{'3' * 16}.tmp",  # of an earlier version, and young
        tmp_path / f".unlearn-{dead}-{'4' * 16}.txt",
        tmp_path / f"unlearn-{dead}-{'5' * 16}.tmp",
        tmp_path / "a.tmp",
    ]
    for file in (*gone, *stay):
        file.write_text("x")
    aged(gone[1], 7 * 3600)
    folder = tmp_path / f".unlearn-{dead}-{'6' * 16}.tmp"
    folder.mkdir()
    (folder / "vocab.json").write_text("x")
    write_whole(tmp_path / "new", b"y")
    assert sorted(tmp_path.iterdir()) == sorted([*stay, tmp_path / "new"])


@POSIX
def test_a_lock_protects_a_writer_whose_number_is_unknown_here(tmp_path, monkeypatch):
    """As in another container or on another machine; also when it has paused for long."""
    monkeypatch.setattr(leftovers, "lives", lambda _: False)
    with whole_file(tmp_path / "a") as file:
        file.write(b"x")
        aged(file.path, 7 * 3600)
        sweep(tmp_path)
        assert file.path.exists()
    assert (tmp_path / "a").read_bytes() == b"x"
    with new_name(tmp_path) as left:
        left.write_text("x")
        sweep(tmp_path)
        assert left.exists()
    sweep(tmp_path)
    assert not left.exists()


def test_links_and_folders_that_cannot_be_read_are_left_alone(tmp_path):
    (tmp_path / "precious").write_text("x")
    link = tmp_path / f".unlearn-{'7' * 16}.tmp"
    link.symlink_to(tmp_path / "precious")
    sweep(tmp_path)
    sweep(tmp_path / "nowhere")
    assert link.is_symlink() and (tmp_path / "precious").read_text() == "x"


# A disk that takes its time between the last byte and the place


def no_locks(*_):
    raise OSError(errno.ENOLCK, "No locks available")


DISKS = {
    "of today": lambda patch: None,
    "without locks": lambda patch: patch.setattr("fcntl.flock", no_locks),
    "of Windows": lambda patch: patch.setattr(leftovers, "sys", SimpleNamespace(platform="win32")),
}


@pytest.fixture(params=[pytest.param(d, marks=POSIX) for d in DISKS])
def slow(request, monkeypatch):
    """Every file is as old as a file can be by the time when it is on the disk."""
    DISKS[request.param](monkeypatch)
    fsync = os.fsync

    def slowly(handle):
        fsync(handle)
        os.utime(f"/proc/self/fd/{handle}", (0, 0))

    monkeypatch.setattr(os, "fsync", slowly)


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="asks the system for an open file's name")
@pytest.mark.parametrize("task", TASKS)
def test_a_slow_disk_changes_nothing(task, slow, prepared, tmp_path):
    """What is placed beside a copy sweeps the folder in which the finished copy waits for its name."""
    model = prepared(tmp_path / "fast")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        TASKS[task](tmp_path / "fast", model)
    TASKS[task](tmp_path / "slow", prepared(tmp_path / "slow"))
    assert contents(tmp_path / "slow") == contents(tmp_path / "fast")


@POSIX
@pytest.mark.parametrize("disk", ["of today", "of Windows"])
def test_another_process_leaves_a_finished_file_alone_until_it_has_its_place(disk, tmp_path, monkeypatch):
    DISKS[disk](monkeypatch)

    def swept_by_another(temporary, path):
        child = os.fork()
        if not child:
            leftovers.under_way.clear()
            sweep(tmp_path)
            os._exit(0)
        os.waitpid(child, 0)
        os.replace(temporary, path)

    with whole_file(tmp_path / "a", swept_by_another) as file:
        file.write(b"x")
        file.settle()
        monkeypatch.setattr(file, "settle", lambda: aged(file.path, 7 * 3600))
    assert contents(tmp_path) == {"a": b"x"}


def test_what_system_moves_open_files(monkeypatch):
    for platform, moves in (("linux", True), ("darwin", True), ("win32", False)):
        monkeypatch.setattr(leftovers, "sys", SimpleNamespace(platform=platform))
        assert leftovers.moves_what_is_open() is moves


@pytest.mark.parametrize("there", [False, True])
def test_a_copy_that_somebody_deletes_before_it_is_placed_leaves_nothing_beside_it(there, prepared, tmp_path):
    """A copy of an earlier day stays as it is."""
    model, out, replace = prepared(tmp_path / "f"), tmp_path / "new" / "copy.safetensors", os.replace
    if there:
        bake(STACK, model, out)
    before = contents(tmp_path / "new")

    def deleted(temporary, path):
        os.unlink(temporary)
        replace(temporary, path)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(UnlearnError, match="' cannot be written"):
        patch.setattr(os, "replace", deleted)
        bake(STACK, model, out)
    assert contents(tmp_path / "new") == before and leftovers.under_way == set()


# The last steps


def test_what_the_block_raises_is_passed_on_as_it_is(tmp_path):
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "a"):
        (tmp_path / "no such source").read_bytes()
    assert list(tmp_path.iterdir()) == []


def test_a_report_with_a_file_name_that_is_no_text_is_still_json(tmp_path):
    write_json(tmp_path / "r.json", {"delta": os.fsdecode(b"\xff.safetensors"), "concept": "Zoë"})
    assert json.loads((tmp_path / "r.json").read_text("utf-8")) == {"delta": "\udcff.safetensors", "concept": "Zoë"}


def test_pictures_are_whole_or_absent(tmp_path, monkeypatch):
    import torch

    file = tmp_path / "p.png"
    save_pictures(file, ["a"], torch.zeros(1, 3, 8, 8), None)
    before = file.read_bytes()
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(UnlearnError, match="is full"):
        save_pictures(file, ["b"], torch.ones(1, 3, 8, 8), None)
    assert file.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_the_saved_delta_is_the_one_that_is_read(tmp_path):
    save(unbaked.delta(), tmp_path / "x.safetensors")
    assert load(tmp_path / "x.safetensors").content_hash() == unbaked.delta().content_hash()
