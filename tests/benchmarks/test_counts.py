"""Rows by phase, and how the agreement of two checks is summed up."""

from dataclasses import fields
from types import SimpleNamespace

import pytest

from benchmarks import agreement
from benchmarks.counts import Counted, Phases, table
from benchmarks.doc_results import agreement as agreement_table
from benchmarks.doc_results import agreement_tried
from benchmarks.row_passes import Rows
from unlearn_core.recipe import DEFAULT


def test_work_between_two_reports_belongs_to_the_phase_of_the_first():
    rows = Rows()
    phases = Phases(rows)
    for phase, done in (("sampling", 1), ("sampling", 16), ("choosing", 3), ("after", 40)):
        rows.count += done
        phases(SimpleNamespace(phase=phase))
    rows.count += 7
    phases.end()
    assert phases.found.rows == {"opening": 1, "sampling": 16 + 3, "choosing": 40, "after": 7}
    assert phases.found.total == rows.count == 67 and list(phases.found.seconds) == list(phases.found.rows)


def test_a_table_has_a_line_a_phase_and_their_sum():
    lines = table([("banana", Counted({"before": 3, "after": 4}, {"before": 1.0, "after": 2.0}))]).splitlines()
    assert [line.split()[0] for line in lines] == ["phase", "before", "after", "together"]
    assert lines[-1].split()[1:] == ["7", "rows", "3.0", "s"]


def test_every_change_is_judged_once():
    every = list(agreement.cases(1000))
    assert len(every) == len(agreement.KINDS) * len(agreement.CONCEPTS) == len({c.name for c in every}) >= 200
    assert [c.name for c in agreement.cases(2)] == ["banana-good-1", "cat-good-1"]


def test_agreement_is_the_share_of_runs_with_the_same_answer():
    def run(full, sequential):
        judges = {"full": full, "sequential": sequential, "classifier": full}
        told = {
            n: {"grade": g, "harmed": g == "not", "rows": r}
            for (n, g), r in zip(judges.items(), (9, 3, 0), strict=True)
        }
        return {"case": {"kind": "good"}, **told}

    found = agreement.summary([run("not", "not"), run("forgotten", "forgotten"), run("not", "partly")])
    assert [r["kind"] for r in found] == ["good", "all"] and found[1]["runs"] == 3
    assert found[1]["grade: sequential, full"] == found[1]["harmed: sequential, full"] == pytest.approx(2 / 3)
    assert found[1]["rows: full"] == 9 and found[1]["grade: full, classifier"] == 1.0
    lines = agreement_table({"rows": found, "sources": {"agreement": {"date": "d", "device": "x", "commit": "c"}}})
    assert lines[3].startswith("| all | 3 | 66.7 % |") and "--runs 3" in lines[-1]


def test_what_was_tried_says_which_constant_it_was():
    row = {"grade": 0.96, "harmed": 0.98, "rows": 698.0, "rows: good": 611.0}
    tried = [row | {"changes": {}}, row | {"changes": {"near_shares": (0.1, 0.3), "error": 0.02}}]
    lines = agreement_tried({"tried": tried, "halves": 0.85})
    assert lines[2] == "| as they are | 96 % | 98 % | 698 | 611 |"
    assert lines[3].startswith("| `near_shares` 0.1 to 0.3, `error` 0.02 |") and "in 85 % of" in lines[-1]
    assert all({f.name for f in fields(DEFAULT["object"])} >= changes.keys() for changes in agreement.TRIED)
