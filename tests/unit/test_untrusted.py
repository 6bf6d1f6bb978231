"""Bounded reading of files that anybody may have made, and texts that are harmless where they are shown."""

import errno
import json
import os
import struct

import pytest

from unlearn_core.delta.format import load
from unlearn_core.delta.paths import linked
from unlearn_core.errors import BadCheckpoint, BadDelta, UnlearnError, one_line
from unlearn_core.untrusted import Unreadable, listed, parse_json, read_header, read_json, read_text

MB = 2**20


def header_file(path, text: str | bytes, numbers: bytes = b"\0" * 4):
    data = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(struct.pack("<Q", len(data)) + data + numbers)
    return path


@pytest.mark.parametrize(
    "text, shown",
    [
        ("\x1b]0;owned\x07\x1b[2J", "?]0;owned??[2J"),
        ("two\r\nlines\tand  more", "two lines and more"),
        ("\x9b31mred", "?31mred"),
        ("a\u202eb\u200fc\u2066d", "a?b?c?d"),
        ("half \ud800", "half ?"),
        ("Käse 梨 …", "Käse 梨 …"),
        ("x" * 3000, "x" * 1999 + "…"),
    ],
)
def test_a_message_is_one_visible_line(text, shown):
    assert one_line(text) == shown
    for error in (UnlearnError, BadCheckpoint, Unreadable):
        assert str(error(text)) == shown and shown.isprintable()


def test_a_header_is_read(tmp_path):
    row = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    header = read_header(header_file(tmp_path / "a", json.dumps({"__metadata__": {"a": "b"}, "x": row})), MB, 10)
    assert (header.tensors, header.metadata) == ({"x": ("F32", (1,))}, {"a": "b"})


@pytest.mark.parametrize(
    "text, words",
    [
        ("[]", "not a table"),
        ('{"a": 1}', "proper shape"),
        ('{"a": {"shape": [-1]}}', "proper shape"),
        ('{"a": {"shape": [true]}}', "proper shape"),
        ('{"a": {"shape": [1,1,1,1,1,1,1,1,1]}}', "proper shape"),
        ('{"a": {"shape": [9223372036854775807]}}', "proper shape"),
        ('{"a": {"shape": [1]}, "a": {"shape": [1]}}', "twice"),
        ('{"__metadata__": {"a": 1}}', "something else than texts"),
        ('{"\\u001b[2J": {"shape": [1]}}', "letters"),
        ('{"' + "x" * 600 + '": {"shape": [1]}}', "letters"),
        ("{" + ",".join(f'"{i}":{{"shape":[1]}}' for i in range(11)) + "}", "11 tensors"),
        ("[" * 100_000, "nested too deep"),
        ('{"a": {"shape": [1], "x": NaN}}', "NaN"),
        (b"\xff\xfe{}", "not JSON"),
    ],
)
def test_a_hostile_header_is_refused(tmp_path, text, words):
    with pytest.raises(Unreadable, match=words):
        read_header(header_file(tmp_path / "a", text), MB, 10)


def test_a_header_is_refused_by_its_length_alone(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(struct.pack("<Q", 2**40))
    with pytest.raises(Unreadable, match="too large"):
        read_header(file, MB, 10)
    for data in (b"", b"\0" * 7, b"\0" * 8, struct.pack("<Q", 100) + b"{}"):
        file.write_bytes(data)
        with pytest.raises(Unreadable, match="damaged"):
            read_header(file, MB, 10)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes in folders")
@pytest.mark.parametrize(
    "start", [b"<!DOCTYPE html><html>", b"\n <html>", b"version https://git-lfs.github.com/spec/v1\n"]
)
def test_a_download_that_is_none_is_told(tmp_path, start):
    file = tmp_path / "model.safetensors"
    file.write_bytes(start + b" " * 200)
    with pytest.raises(Unreadable, match="download the file itself again"):
        read_header(file, MB, 10)


@pytest.mark.parametrize("read", [lambda f: read_header(f, MB, 10), lambda f: read_text(f, MB)])
def test_a_pipe_or_a_folder_is_not_waited_for(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", tmp_path):
        with pytest.raises(Unreadable, match="it is no ordinary file"):
            read(place)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "absent")


def test_texts_have_a_size_and_may_have_a_byte_order_mark(tmp_path):
    file = tmp_path / "a.json"
    file.write_bytes(b"\xef\xbb\xbf[1]")
    assert read_json(file, 100) == [1]
    with pytest.raises(Unreadable, match="larger"):
        read_text(file, 5)
    file.write_bytes(b"\xff\xff")
    with pytest.raises(Unreadable, match="UTF-8"):
        read_text(file, 5)


@pytest.mark.parametrize(
    "text", ["Infinity", '{"a": -Infinity}', "1" * 5000, '{"a":1,"a":2}', "[" * 10**5, "", "{'a': 1}"]
)
def test_json_that_is_none_is_refused(text):
    with pytest.raises(Unreadable):
        parse_json(text, "it")


def test_a_list_names_the_first_and_counts_the_rest():
    assert listed(["b", "a"]) == "a, b"
    assert listed("edcba") == "a, b, c and 2 more"


# Names of files

NAMES = ["../x", "/x", "C:x", "..\\x", "a\0", "x" * 300, "\ud83d", "", ".", "a/../../x", 3, None]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:20])
def test_links_are_followed_and_names_that_lead_outside_by_themselves_are_not(tmp_path, name):
    inside = tmp_path / "inside"
    inside.mkdir()
    for link, place in (("link", tmp_path), ("loop", "loop"), ("gone", tmp_path / "nothing")):
        (inside / link).symlink_to(place)
        assert linked(inside, link) == inside.resolve() / link
    assert linked(inside, "link/./x") == inside.resolve() / "link" / "x"
    with pytest.raises(BadDelta, match="plain file name inside its folder"):
        linked(inside, name)


def test_a_delta_on_a_disk_that_fails_is_refused_in_words(tmp_path, monkeypatch):
    def fails(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch, pytest.raises(BadDelta, match="There is no file"):
        patch.setattr(os, "stat", fails)
        load(tmp_path / "a.safetensors")
