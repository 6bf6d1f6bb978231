"""The folder of finished parts: what is written, what is taken, what is deleted, and what it may never do."""

import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from unlearn_core import saved_work
from unlearn_core.saved_work import (
    MOST_BYTES,
    NOTHING,
    SavedWork,
    cache_folder,
    digest,
    discard,
    holds_work,
    saved_tensor,
)

KEY = digest("a request")


def begun(folder, key=KEY, **options):
    saved = SavedWork(folder, **options)
    saved.begin(key, lambda seconds: None)
    return saved


def never():
    raise AssertionError("this was made already")


def one(value=1.0, size=4):
    return lambda: {"it": torch.full((size,), value)}


def files(folder):
    return sorted(f for f in folder.rglob("*") if f.is_file())


def test_a_part_is_taken_with_its_layout_and_its_type(tmp_path):
    values = {
        "turned": torch.randn(3, 5).T,
        "pictures": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "a half": torch.randn(3).to(torch.bfloat16),
        "number": torch.tensor(2.5, dtype=torch.float64),
        "random": torch.Generator().manual_seed(3).get_state(),
        "nothing": torch.zeros(0, 4),
    }
    assert begun(tmp_path).part("some", (1,), lambda: values) is values
    found = begun(tmp_path).part("some", (1,), never)
    assert found.keys() == values.keys()
    for name, t in values.items():
        assert torch.equal(found[name], t) and (found[name].dtype, found[name].stride()) == (t.dtype, t.stride()), name


def test_a_part_stands_for_itself_and_all_before_it(tmp_path):
    saved = begun(tmp_path)
    for name in "ab":
        saved.part(name, (), one())
    made = []

    def new():
        made.append(1)
        return {"it": torch.ones(4)}

    begun(tmp_path).part("b", (), new)
    begun(tmp_path).part("a", ("of another thing",), new)
    other = begun(tmp_path, digest("another request"))
    other.part("a", (), new)
    second = begun(tmp_path)
    second.part("a", ("other",), one(2.0))
    second.part("b", (), new)
    assert len(made) == 4
    again = begun(tmp_path)
    again.part("a", (), never)
    again.part("b", (), never)


def test_numbers_that_are_not_finite_are_made_again(tmp_path):
    for _ in range(2):
        assert begun(tmp_path).part("x", (), one(float("nan")))["it"].isnan().all()
    assert len(files(tmp_path)) == 1
    begun(tmp_path).part("y", (), one(2.0))
    with pytest.raises(AssertionError):
        begun(tmp_path).part("x", (), never)


def test_not_to_go_on_makes_anew_and_keeps(tmp_path):
    begun(tmp_path).part("x", (), one())
    anew = begun(tmp_path, go_on=False)
    assert not anew.there
    with pytest.raises(AssertionError):
        anew.part("x", (), never)
    anew.part("x", (), one())
    assert begun(tmp_path).there


def test_seconds_that_need_not_be_worked_again_are_said(tmp_path, monkeypatch):
    clock = iter([10.0, 17.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    begun(tmp_path).part("x", (), one())
    heard, saved = [], SavedWork(tmp_path)
    saved.begin(KEY, heard.append)
    saved.part("x", (), never)
    assert heard == [7.0]


def test_the_number_of_the_first_run_is_kept(tmp_path):
    assert begun(tmp_path).number("rows", 7) == 7
    assert begun(tmp_path).number("rows", 3) == 7
    assert NOTHING.number("rows", 3) == 3


def test_a_host_of_no_run_keeps_nothing():
    host = SimpleNamespace(device=torch.device("cpu"))
    assert saved_tensor(host, "x", (), lambda: torch.ones(2)).tolist() == [1, 1]


def test_too_much_is_not_kept(tmp_path):
    saved = begun(tmp_path, most=3000)
    for number in range(5):
        saved.part(str(number), (), one(size=200))
    assert 1 <= len(files(tmp_path)) < 5 and sum(f.stat().st_size for f in files(tmp_path)) <= 3000


def test_room_is_left_on_the_disk(tmp_path, monkeypatch):
    free = SimpleNamespace(free=saved_work.RESERVE + 100)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: free)
    assert begun(tmp_path).part("x", (), one(3.0))["it"][0] == 3
    assert files(tmp_path) == []


@pytest.mark.parametrize("when", ["mkdir", "write", "replace"])
def test_a_disk_that_refuses_does_not_stop_the_run(when, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    target = {"mkdir": "pathlib.Path.mkdir", "write": "pathlib.Path.write_bytes", "replace": "os.replace"}[when]
    monkeypatch.setattr(target, full)
    saved = begun(tmp_path / "deep")
    assert saved.part("x", (), one(3.0))["it"][0] == 3 and saved.part("y", (), one(4.0))["it"][0] == 4
    assert files(tmp_path) == []


def test_a_file_in_the_folders_place_is_left_alone(tmp_path):
    (tmp_path / "work").write_text("mine")
    saved = begun(tmp_path / "work")
    assert saved.part("x", (), one(3.0))["it"][0] == 3
    saved.remove()
    discard(tmp_path / "work")
    assert (tmp_path / "work").read_text() == "mine"


def test_only_own_files_are_deleted(tmp_path):
    saved = begun(tmp_path)
    saved.part("x", (), one())
    (place,) = tmp_path.iterdir()
    (place / "notes.txt").write_text("mine")
    (tmp_path / "ff").mkdir()
    (tmp_path / "ff" / ("0" * 32 + ".part")).write_text("mine too")
    saved.remove()
    discard(tmp_path)
    assert {f.name for f in files(tmp_path)} == {"notes.txt", "0" * 32 + ".part"}


def test_old_work_and_too_much_of_it_is_swept(tmp_path):
    keys = [digest(n) for n in range(3)]
    for age, key in zip((1, 3, 15), keys, strict=True):
        begun(tmp_path, key).part("x", (), one())
        (place,) = tmp_path.glob(key[:32])
        os.utime(place, (time.time() - age * 86400,) * 2)
    begun(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {key[:32] for key in keys[:2]}
    begun(tmp_path, most=files(tmp_path)[0].stat().st_size)
    assert {p.name for p in tmp_path.iterdir()} == {keys[0][:32]}


def test_what_a_kill_left_half_written_goes_with_the_rest(tmp_path):
    saved = begun(tmp_path / "work")
    saved.part("x", (), one())
    (place,) = (tmp_path / "work").iterdir()
    (place / (".unlearn-" + "0" * 16 + ".tmp")).write_bytes(b"half")
    assert holds_work(tmp_path / "work")
    saved.remove()
    assert not (tmp_path / "work").exists() and not holds_work(tmp_path / "work")


def test_a_huge_file_is_not_read(tmp_path, monkeypatch):
    begun(tmp_path).part("x", (), one())
    (file,) = files(tmp_path)
    os.truncate(file, MOST_BYTES + 1)
    monkeypatch.setattr("pathlib.Path.read_bytes", lambda self: never())
    assert begun(tmp_path).part("x", (), one(5.0))["it"][0] == 5


def test_a_link_in_a_files_place_is_not_written_through(tmp_path):
    """Whoever may write into the folder gains nothing: files are moved into place."""
    saved = begun(tmp_path / "work")
    saved.part("x", (), one())
    (file,) = files(tmp_path / "work")
    (tmp_path / "precious").write_text("mine")
    file.unlink()
    try:
        file.symlink_to(tmp_path / "precious")
    except OSError:
        pytest.skip("this system makes no links")
    begun(tmp_path / "work").part("x", (), one())
    assert (tmp_path / "precious").read_text() == "mine" and not file.is_symlink()


def test_snapshots_take_no_more_than_their_share(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    saved, written = begun(tmp_path), []

    def write(*_):
        now[0] += 3.0
        written.append(now[0])

    monkeypatch.setattr(saved, "write", write)
    snapshot = saved.snapshot()
    while now[0] < 2000:
        now[0] += 1.0
        snapshot.write(dict, dict)
    assert written[0] == pytest.approx(123.0) and len(written) == 7, "3 s each take at most 1 % of the time"


def test_the_home_folder_in_the_variable_is_the_home_folder(monkeypatch):
    monkeypatch.setenv("UNLEARN_CACHE", "~/kept")
    assert cache_folder() == Path.home() / "kept"
