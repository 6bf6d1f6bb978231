"""Generated tables: those of the documentation are up to date, and a run's rows become a table."""

import dataclasses
import json
import subprocess
import sys

import pytest

from benchmarks import doc_tables
from benchmarks.__main__ import main
from benchmarks.doc_results import alone, cell, number, sequence, sequence_short
from benchmarks.doc_tables import OPEN, RESULTS, ROOT, TABLES, described, outdated, pages, shown, write
from benchmarks.record import Origin, record_alone, record_sequence
from unlearn_core.cli.main import MOVED
from unlearn_core.cli.main import main as product
from unlearn_core.config import settings
from unlearn_core.errors import BadSetting
from unlearn_core.recipe import Recipe


def test_the_tables_of_the_documentation_are_up_to_date():
    assert outdated() == [], "run: python -m benchmarks tables"


def test_the_settings_and_the_recipe_are_documented():
    used = {name for page in pages() for name in OPEN.findall(page.read_text(encoding="utf-8"))}
    assert {"settings-request", "settings-edit", "settings-training", "recipe"} <= used <= TABLES.keys()
    rows = [line for group in ("request", "edit", "training") for line in TABLES[f"settings-{group}"]()]
    assert all(sum(line.startswith(f"| `{f.name}` |") for line in rows) == 1 for f in settings())
    texts = described(Recipe)
    assert list(texts) == [f.name for f in dataclasses.fields(Recipe)] and all(texts.values())
    assert len(TABLES["recipe"]()) == 2 + len(texts)


def test_every_table_of_results_names_where_its_numbers_come_from():
    files = sorted(RESULTS.glob("*.json"))
    assert files
    for file in files:
        data = json.loads(file.read_text(encoding="utf-8"))
        for source in data["sources"].values():
            assert source["date"] and source["commit"] and source["device"], file.name
        assert {r["source"] for r in data["rows"] if "source" in r} <= data["sources"].keys()


@pytest.fixture
def a_page(tmp_path, monkeypatch):
    """A folder with a page of one table."""
    monkeypatch.setitem(TABLES, "numbers", lambda: ["| a |", "|---|", "| 1 |"])
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("Nothing.\n", encoding="utf-8")
    page = tmp_path / "docs" / "page.md"
    page.write_text("Before.\n<!-- table:numbers -->\nold\n<!-- /table:numbers -->\nAfter.\n", encoding="utf-8")
    return page


def test_only_what_stands_between_the_markers_is_written(a_page):
    root = a_page.parents[1]
    assert outdated(root) == ["page.md"] == write(root) and outdated(root) == [] == write(root)
    wanted = "Before.\n<!-- table:numbers -->\n| a |\n|---|\n| 1 |\n<!-- /table:numbers -->\nAfter.\n"
    assert a_page.read_text(encoding="utf-8") == wanted


@pytest.mark.parametrize(
    "text", ["<!-- table:unknown -->\n<!-- /table:unknown -->\n", "<!-- table:numbers -->\n| a |\n"]
)
def test_wrong_markers_are_refused(a_page, text):
    a_page.write_text(text, encoding="utf-8")
    with pytest.raises(BadSetting, match=r"page\.md"):
        outdated(a_page.parents[1])


def test_the_check_command_fails_where_a_table_is_old(a_page, monkeypatch, capsys):
    monkeypatch.setattr(doc_tables, "pages", lambda root=None: [a_page])
    before = a_page.read_text(encoding="utf-8")
    assert main(["tables", "--check"]) == 1 and "out of date: page.md" in capsys.readouterr().out
    assert a_page.read_text(encoding="utf-8") == before
    assert main(["tables"]) == 0 and main(["tables", "--check"]) == 0


def test_numbers_say_no_more_than_they_know():
    assert [number(v) for v in (100.0, 99.84, 0.04, -0.04, 1901.4)] == ["100", "99.8", "0", "0", "1901"]
    assert cell({"far": [0.998, 0.974]}, "far") == "99.8 % (97.4)" and cell({}, "far") == ""
    assert cell({"resurgence_worst": 0.062}, "resurgence_worst") == "6.2" and cell({"kid": -0.3}, "kid") == "-0.3"
    assert cell({"preserved_worst": 0.88, "preserved_worst_name": "fox"}, "preserved_worst") == "88 % (fox)"
    assert [shown(v) for v in (1e-6, 1000.0, 1024.0, 1 / 3, (), "", True)] == [
        *("0.000001", "1000", "1024", "0.3333", "none", "empty", "yes")
    ]


def a_row(method, seed, request, ua, **facts):
    return {
        "method": method,
        "sequence": "A",
        "seed": seed,
        "request": request,
        "label": method,
        "device": "2 CPU threads",
        "ua_all": ua,
        "leakage": 0.02 + 0.01 * seed,
        "leakage_base": 0.03,
        "styles_base": 0.95,
        "kid_base": 0.5,
        "kid": 2.0,
        "near_held_out": None,
        "far": 1.0,
        "styles": 0.9,
        "preserved_worst": 0.5,
        "preserved_worst_name": "fox",
        **facts,
    }


def test_a_run_becomes_a_committed_result(tmp_path):
    rows = [a_row("ours", s, n, 1.0 - s / 10) for s in (0, 1) for n in (1, 2)] + [a_row("uce", 0, 2, 0.5)]
    run, kept = tmp_path / "run", tmp_path / "results"
    for folder in (run, kept):
        folder.mkdir()
    (run / "results.json").write_text(json.dumps({"pictures": 8, "rows": rows}), encoding="utf-8")
    old = {"method": "ours", "label": "ours", "seeds": 1, "source": "old", "group": "main", "kid": 9.0}
    other, searched = old | {"method": "esd-lora", "label": "ESD"}, old | {"group": "searched"}
    facts = {"commit": "1234567", "date": "2026-01-01", "command": "x", "device": "y"}
    before = {"sources": {"old": facts, "unused": facts}, "rows": [old, other, searched]}
    (kept / "sequence_A.json").write_text(json.dumps(before), encoding="utf-8")
    origin = Origin("python -m benchmarks sequence A --seeds 2", "abcdef0", date="2026-02-02")
    file = record_sequence(run, "A", origin, kept)
    data = json.loads(file.read_text(encoding="utf-8"))
    assert [r["method"] for r in data["rows"]] == ["ours", "uce", "esd-lora", "ours"]
    assert data["rows"][0]["ua_all"] == [0.95, 0.9] and data["rows"][0]["leakage"] == [pytest.approx(0.025), 0.03]
    assert data["rows"][1]["preserved_worst_name"] == "fox" and "near_held_out" not in data["rows"][0]
    assert data["sources"].keys() == {"old", "abcdef0"} and data["sources"]["abcdef0"]["device"] == "2 CPU threads"
    lines = sequence(data)
    assert lines[0].startswith("| After request 2 of sequence A |") and "| **ours** | 2 | 95 % (90) |" in lines[3]
    assert "1. `python -m benchmarks sequence A --seeds 2`: 2026-02-02, 2 CPU threads, commit abcdef0." in lines
    assert len(sequence(data, "searched")) == 5
    assert sequence_short(data)[3] == "| ours | 95 % |  | 100 % | 90 % | 2 |"


def test_single_requests_become_a_committed_result(tmp_path):
    facts = {
        "preserved_base": 0.9,
        "broken": 0.0,
        "row_passes": 1000,
        "seconds": 20.0,
        "objects": {"fox": 0.9, "bus": 0.72},
    }
    rows = [
        a_row("ours", seed, 1, 1.0, sequence=concept, ua_new=1.0 - seed / 50, **facts)
        for concept in ("cat", "ink")
        for seed in (0, 1)
    ]
    (tmp_path / "results.json").write_text(json.dumps({"pictures": 8, "rows": rows}), encoding="utf-8")
    file = record_alone(tmp_path, "cat,ink", Origin("x", "abcdef0", model="flow"), tmp_path)
    assert file.name == "alone_flow.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    (cat, ink) = data["rows"]
    assert cat["left"] == [pytest.approx(0.01), pytest.approx(0.02)] and ink["concept"] == "ink"
    assert cat["others"] == [pytest.approx(0.9)] * 2 and cat["styles"] == [pytest.approx(0.9 / 0.95)] * 2
    assert (
        alone(data)[2]
        == "| cat | ours | 2 | 1 % (2) | 90 % (90) | 50 % (50) | 94.7 % (94.7) | 0 % (0) | 1000 (1000) | 20 (20) | 1 |"
    )
    with pytest.raises(BadSetting, match="no rows of sequence dog"):
        record_alone(tmp_path, "cat,dog", Origin("x", "abcdef0"), tmp_path)


def test_a_run_that_is_not_complete_is_not_recorded(tmp_path):
    rows = [a_row("ours", 0, 2, 1.0), a_row("uce", 0, 1, 1.0)]
    (tmp_path / "results.json").write_text(json.dumps({"pictures": 8, "rows": rows}), encoding="utf-8")
    with pytest.raises(BadSetting, match="finish them first"):
        record_sequence(tmp_path, "A", Origin("x", "abcdef0"), tmp_path)
    with pytest.raises(BadSetting, match="no rows of sequence B"):
        record_sequence(tmp_path, "B", Origin("x", "abcdef0"), tmp_path)


def test_the_old_command_says_where_the_benchmark_is(capsys):
    assert product(["benchmark", "--speed", "--whole"]) == 2
    assert capsys.readouterr().err == MOVED + "\n"
    with pytest.raises(SystemExit):
        product(["--help"])
    assert "benchmark" not in capsys.readouterr().out


def test_the_commands_are_listed():
    done = subprocess.run([sys.executable, "-m", "benchmarks", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    for name in ("sequence", "robustness", "search", "speed", "profile", "against", "gpu", "tables", "record"):
        assert f"\n    {name}" in done.stdout
