"""How the tests are divided between two processes."""

import json
from types import SimpleNamespace

import pytest

from tests import balance


def item(nodeid: str, *marks: str):
    """A collected test."""
    return SimpleNamespace(nodeid=nodeid, iter_markers=lambda: [SimpleNamespace(name=m) for m in marks])


@pytest.fixture
def table(tmp_path, monkeypatch):
    file = tmp_path / "durations.json"
    monkeypatch.setattr(balance, "TABLE", file)
    return file


def test_a_version_of_comfyui_is_one_group_and_elsewhere_a_file():
    assert balance.group_of("tests/comfy/test_nodes.py::test_a[0.18.2-x]") == "ComfyUI 0.18.2"
    assert balance.group_of("tests/comfy/test_sources.py::test_a") == "tests/comfy/test_sources.py"
    assert balance.group_of("tests/unit/test_a.py::test_b[0.18.2]") == "tests/unit/test_a.py"


def test_the_longest_group_of_what_is_run_comes_first(table):
    table.write_text(
        json.dumps({"a.py": {"default": 5, "full": 900}, "b.py": {"default": 40}, "c.py": {"default": 20}})
    )
    items = [item("a.py::x"), item("new.py::x"), item("b.py::x"), item("c.py::x"), item("b.py::y")]
    balance.longest_first(items)
    assert [i.nodeid for i in items] == ["b.py::x", "b.py::y", "c.py::x", "new.py::x", "a.py::x"]
    items.append(item("a.py::y", "full"))
    balance.longest_first(items)
    assert [i.nodeid for i in items][:2] == ["a.py::x", "a.py::y"]


def test_the_table_holds_what_was_measured(table):
    watch = balance.Stopwatch()
    for nodeid, marks, seconds in (
        ("a.py::x", {}, 2.0),
        ("a.py::x", {}, 1.2),
        ("a.py::y", {"full": 1}, 9),
        ("b.py::x", {}, 30),
    ):
        watch.pytest_runtest_logreport(SimpleNamespace(nodeid=nodeid, keywords=marks, duration=seconds))
    watch.pytest_sessionfinish()
    assert json.loads(table.read_text()) == {"b.py": {"default": 30}, "a.py": {"default": 3, "full": 9}}
