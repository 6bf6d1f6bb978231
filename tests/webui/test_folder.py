"""The button that opens the deltas' folder, and the small pictures of what the stack has forgotten."""

import io
import os
import struct
import sys
import types
import zlib
from pathlib import Path

import pytest
from PIL import Image

from tests.webui.pack import load

core, services, folders = load("unlearn_core"), load("extension.service"), load("extension.open_folder")
library, pictures, html = load("extension.delta_library"), load("extension.pictures"), load("extension.html")
stack_file = load("extension.stack_file")

posix = pytest.mark.skipif(sys.platform == "win32", reason="stands in for the file manager by a script")


@posix
@pytest.mark.parametrize(("system", "name"), [("linux", "xdg-open"), ("darwin", "open")])
def test_the_file_manager_gets_the_folder_and_nothing_else(tmp_path, opener, monkeypatch, system, name):
    folder = tmp_path / "-x; touch gone $(touch gone)"
    folder.mkdir()
    asked = opener(name=name)
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.chdir(tmp_path)
    assert folders.open_folder(Path(folder.name)) == f"The folder {folder} is open."
    assert asked.read_text() == f"1\n{folder}\n" and not (tmp_path / "gone").exists()


def test_windows_opens_it_by_its_own_call(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(os, "startfile", opened.append, raising=False)
    folders.open_folder(tmp_path)
    assert opened == [tmp_path.resolve()]


@posix
def test_what_is_no_folder_is_never_opened(tmp_path, opener):
    asked = opener()
    (tmp_path / "program").write_text("")
    for name in ("program", "absent"):
        with pytest.raises(core.UnlearnError, match="There is no folder"):
            folders.open_folder(tmp_path / name)
    assert not asked.exists()


def test_where_the_folder_is_not_the_tab_says_what_to_do(tmp_path):
    assert library.not_there(tmp_path) == ""
    assert "made when the next delta is saved" in library.not_there(tmp_path / "absent")
    (tmp_path / "file").write_text("")
    with pytest.raises(core.BadSetting, match="move or rename that file"):
        services.check_folder(tmp_path / "file")
    services.check_folder(tmp_path / "absent")
    assert (tmp_path / "absent").is_dir() and not list((tmp_path / "absent").iterdir())


@posix
def test_without_a_file_manager_the_folder_is_named(tmp_path, opener, monkeypatch):
    opener(code=3)
    with pytest.raises(core.UnlearnError, match=f"The folder is {tmp_path}"):
        folders.open_folder(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(core.UnlearnError, match=f"The folder is {tmp_path}"):
        folders.open_folder(tmp_path)


def test_a_web_ui_that_is_open_to_others_opens_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(services, "open_folder", lambda folder: f"opened {folder}")
    program = types.SimpleNamespace(folder=lambda: tmp_path, shows_folders=True)
    assert services.Service(program).open_folder() == f"opened {tmp_path}"
    program.shows_folders = False
    with pytest.raises(core.UnlearnError, match="open to other machines"):
        services.Service(program).open_folder()


# Small pictures


def png(size, colour="red"):
    """A PNG's bytes."""
    data = io.BytesIO()
    Image.new("RGB", size, colour).save(data, "PNG")
    return data.getvalue()


def test_the_card_of_a_delta_is_shown_small_and_anew_when_it_changes(tmp_path):
    delta = tmp_path / "forget_cat.safetensors"
    assert library.small_card(delta) == ""
    card = tmp_path / "forget_cat.preview.png"
    card.write_bytes(png((256, 512)))
    first = library.small_card(delta)
    assert first.startswith("data:image/jpeg;base64,") and len(first) < 3000
    card.write_bytes(png((256, 512), "blue"))
    os.utime(card, ns=(1, 1))
    assert library.small_card(delta) not in ("", first)
    card.write_bytes(b"\0" * (library.MOST_PICTURE + 1))
    assert library.small_card(delta) == ""


def huge():
    """A small PNG that says it is 60 000 pixels wide and high."""
    body = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    parts = (b"IHDR", body), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")
    chunks = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("data", [b"", b"GIF89a", png((8, 8))[:-30], huge()], ids=["empty", "gif", "torn", "huge"])
def test_what_is_no_sound_picture_is_left_out(data):
    assert pictures.small_png(data) == ""


def test_a_line_of_the_stack_has_its_picture():
    info = core.DeltaInfo("cat", "object", "dog", "sd1", "epsilon", "0" * 16)
    card = library.Card("forget_cat.safetensors", info, "2026-01-01 00:00", 1)
    row = stack_file.Row("forget_cat.safetensors")
    shown = html.row(2, row, card, None, "data:x")
    assert '<img src="data:x" alt="2. cat, before and after">' in shown and "<b>2. cat</b>" in shown
    assert "<img" not in html.row(2, row, card, None)


def test_of_very_many_files_the_newest_are_looked_at(tmp_path, monkeypatch):
    """Else a new delta whose name comes late would be saved and not be there."""
    monkeypatch.setattr(library, "MOST_FILES", 2)
    monkeypatch.setattr(library, "described", lambda file, changed, size: core.DeltaInfo)
    for number, name in enumerate(("z", "a", "b", "c")):
        file = tmp_path / f"{name}.safetensors"
        file.touch()
        os.utime(file, (1000 - number, 1000 - number))
    assert [card.name for card in library.cards(tmp_path)] == ["z.safetensors", "a.safetensors"]


def test_deltas_behind_a_link_are_listed_once(tmp_path, monkeypatch):
    """As web UIs list their LoRAs; a link that leads back, to nothing, or to what is listed anyway adds none."""
    monkeypatch.setattr(library, "described", lambda file, changed, size: core.DeltaInfo)
    folder, disk = tmp_path / "Lora", tmp_path / "disk"
    for place in (folder / "own", disk / "deep"):
        place.mkdir(parents=True)
        (place / "x.safetensors").touch()
    (disk / "note.txt").touch()
    links = {
        "far": disk,
        "again": disk,
        "a": folder / "own",
        "up": tmp_path,
        "own/loop": folder,
        "lost": tmp_path / "no",
    }
    for name, goal in links.items():
        (folder / name).symlink_to(goal, target_is_directory=True)
    found = [card.name for card in library.cards(folder)]
    assert len(found) == 2 and "own/x.safetensors" in found
    assert {Path(folder, name).resolve() for name in found} == {
        folder / "own/x.safetensors",
        disk / "deep/x.safetensors",
    }
    (tmp_path / "link").symlink_to(folder, target_is_directory=True)
    assert len(library.cards(tmp_path / "link")) == 2, "the folder itself may be a link"
    monkeypatch.setattr(library, "MOST_FOLDERS", 1)
    assert library.cards(folder) == []
