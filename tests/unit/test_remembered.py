"""Pictures of a model that are kept for other runs: what is found again, and what is made anew."""

import os

import pytest
import torch

from unlearn_core.evaluate.remembered import Remembered

SHAPE = (2, 3)


def made(remembered, keys, values=None):
    """(rows, numbers of those that were made)."""
    asked = []

    def make(missing):
        asked.extend(missing)
        return torch.stack([torch.full(SHAPE, float(values[i] if values else i)) for i in missing])

    return remembered.rows(keys, make, SHAPE), asked


def test_rows_are_made_once_and_found_again_in_any_company(tmp_path):
    first, asked = made(Remembered(tmp_path, "model"), [("a",), ("b",)])
    assert asked == [0, 1] and first[:, 0, 0].tolist() == [0, 1]
    again, asked = made(Remembered(tmp_path, "model"), [("c",), ("b",), ("a",)], [7, 8, 9])
    assert asked == [0] and again[:, 0, 0].tolist() == [7, 1, 0]


def test_another_model_finds_nothing_and_without_a_folder_nothing_is_kept(tmp_path):
    made(Remembered(tmp_path, "model"), [("a",)])
    assert made(Remembered(tmp_path, "other"), [("a",)])[1] == [0]
    assert made(Remembered(), [("a",)])[1] == [0]


def cut(file):
    file.write_bytes(file.read_bytes()[:-5])


def flipped(file):
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))


def empty(file):
    file.write_bytes(b"")


def a_folder(file):
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("harm", [cut, flipped, empty, a_folder])
def test_damaged_files_are_made_anew(tmp_path, harm):
    made(Remembered(tmp_path, "model"), [("a",)])
    (file,) = tmp_path.iterdir()
    harm(file)
    rows, asked = made(Remembered(tmp_path, "model"), [("a",)], [5])
    assert asked == [0] and rows[0, 0, 0] == 5
    if harm is not a_folder:
        assert made(Remembered(tmp_path, "model"), [("a",)])[1] == []


def test_files_of_another_name_or_shape_are_not_taken(tmp_path):
    remembered = Remembered(tmp_path, "model")
    made(remembered, [("a",), ("b",)])
    one, other = sorted(tmp_path.iterdir())
    one.write_bytes(other.read_bytes())
    assert len(made(remembered, [("a",), ("b",)])[1]) == 1
    assert remembered.rows([("a",)], lambda missing: torch.zeros(1, 5), (5,)).shape == (1, 5)


def test_numbers_that_are_not_finite_are_not_kept(tmp_path):
    for _ in range(2):
        assert made(Remembered(tmp_path, "model"), [("a",)], [float("nan")])[1] == [0]


def test_what_was_used_longest_ago_goes_first(tmp_path):
    made(Remembered(tmp_path, "model"), [("a",)])
    (file,) = tmp_path.iterdir()
    os.utime(file, (1, 1))
    (tmp_path / "notes.txt").write_text("the artist's own")
    small = Remembered(tmp_path, "model", most=2 * file.stat().st_size)
    made(small, [("b",), ("c",)])
    assert not file.exists() and len(list(tmp_path.glob("*.seen"))) == 2 and (tmp_path / "notes.txt").exists()


def test_a_folder_that_cannot_be_written_changes_nothing(tmp_path):
    (tmp_path / "file").write_text("x")
    assert made(Remembered(tmp_path / "file", "model"), [("a",)])[1] == [0]
