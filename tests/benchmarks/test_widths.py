"""The closed form's algebra on made-up words: targets go to their anchors one after the other, other words stay."""

import pytest

from benchmarks.doc_results import widths
from benchmarks.record import Origin, record_widths
from benchmarks.widths import GONE, measure


@pytest.fixture(scope="module")
def row():
    (found,) = measure({"small": (384, 64)}, words=40)
    return found


def test_two_targets_in_a_row_go_to_their_anchors(row):
    assert len(row["moved"]) == 2 and min(row["moved"]) >= GONE and max(row["moved"]) <= 1.5


def test_other_words_hardly_feel_it_and_listed_ones_least(row):
    assert 0 < row["listed"] < row["unlisted"] < 0.1


def test_numbers_are_kept_where_that_is_asked(row, tmp_path):
    origin = Origin("a command", "abcdef0", date="2026-01-01")
    assert record_widths([row], origin, False, tmp_path)["rows"] and not list(tmp_path.iterdir())
    lines = widths(record_widths([row], origin, True, tmp_path))
    assert (tmp_path / "widths.json").is_file() and lines[2].startswith("| small | 384 x 64 |")
    assert lines[-1].startswith("1. `a command`: 2026-01-01, ")
