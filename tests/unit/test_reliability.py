"""The measurements of reliability: they see what they are to see, and a few cases of each hold.

Default tests: about 20 s, for processes that load torch; the rest is `full`, about 5 minutes.
"""

import json
import signal
import subprocess
import sys
import time

import psutil
import pytest

from benchmarks.doc_results import PROMISES, reliability
from benchmarks.doc_tables import ROOT
from tests.reliability.__main__ import main
from tests.reliability.child import CRASHED, Ended, Limits, forked, worked
from tests.reliability.faults import Faults
from tests.reliability.hostile_checkpoints import CHECKPOINTS
from tests.reliability.hostile_deltas import DELTAS
from tests.reliability.measure import MEASUREMENTS
from tests.reliability.outcome import Outcome
from tests.reliability.scenes import OLDER, SCENES, Rehearsed, contents, prepare
from tests.reliability.soak import WARM, State, judge

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs fork")


def test_a_child_tells_how_it_ended(tmp_path):
    log = tmp_path / "log"
    assert forked(lambda: print("hello") or 3, log=log).code == 3 and log.read_text() == "hello\n"
    assert forked(lambda: signal.pause(), Limits(0.2)).code == -signal.SIGKILL
    ended = forked(busy, Limits(work=0.3))
    assert ended.code == -signal.SIGKILL and 0.3 <= ended.work < 1
    assert forked(lambda: time.sleep(0.5), Limits(work=0.3)).code == 0
    ended = forked(lambda: 1 // 0, log=log)
    assert ended.code == CRASHED and "ZeroDivisionError" in ended.text and not ended.clean


def busy():
    while True:
        pass


def test_losses_of_files_are_seen(tmp_path):
    scene = next(s for s in SCENES if s.replaced)
    prepare(tmp_path / "a")
    before = contents(tmp_path / "a")
    seen = Rehearsed(scene, before, before | {OLDER: "other", "new.safetensors": "digest"}, Ended(0, "", 1.0, 1.0, 1.0))
    assert seen.losses(tmp_path / "a") == []
    (tmp_path / "a" / "new.safetensors").write_text("half")
    (tmp_path / "a" / "cat.safetensors").unlink()
    (tmp_path / "a" / "model.yaml").write_text("")
    (tmp_path / "a" / "stray").write_text("")
    (tmp_path / "a" / ".unlearn-1.tmp").write_text("may be left by a kill")
    assert sorted(seen.losses(tmp_path / "a")) == [
        "cat.safetensors was deleted",
        "model.yaml was changed",
        "new.safetensors is half a file",
        "stray is no file of this command",
    ]


def test_a_fault_comes_at_its_call(tmp_path):
    fault = Faults(("open", 2), OSError)
    fault("open"), fault("write")
    with pytest.raises(OSError):
        fault("open")
    fault("open")
    assert fault.calls == {"open": 3, "write": 1}


def test_growth_is_seen():
    flat = [State(100.0, 10, 5, 1.0)] * (WARM + 20)
    outcome = Outcome("soak", 4)
    judge("tab", flat, outcome)
    assert outcome.failed == [] and outcome.passed == 4
    judge("tab", [State(100.0 + n, 10, 5, 1.0) for n in range(WARM + 20)], outcome)
    assert [f["case"] for f in outcome.failed] == ["tab: memory, MiB"]


@pytest.mark.parametrize("cycles", [1, 2, 4])
def test_few_cycles_are_compared_too(cycles):
    outcome = Outcome("soak", 4)
    judge("tab", [State(100.0, 10, 5, float(n)) for n in range(cycles)], outcome)
    assert outcome.counted["tab: seconds of work, first"] == cycles // 2
    assert outcome.counted["tab: seconds of work, last"] == cycles - 1


def test_only_the_work_of_the_process_itself_counts():
    process = psutil.Process()
    begun = worked(process)
    time.sleep(0.3)
    assert State.of(process, begun).seconds < 0.2
    while worked(process) - begun < 0.3:
        pass
    assert State.of(process, begun).seconds >= 0.3


def test_names_are_the_same_everywhere():
    assert MEASUREMENTS.keys() == PROMISES.keys()
    assert len(DELTAS) + len(CHECKPOINTS) >= 150 and not DELTAS.keys() & CHECKPOINTS.keys()
    assert main(["kills", "--count", "0"]) == 1


def test_the_table():
    found = {"tried": 4, "passed": 3, "counted": {"killed": 2}, "failed": [{"case": "x", "wrong": ["y"]}]}
    (row,) = reliability({"rows": [{"name": "kills", **found}]})[2:]
    assert row.startswith("| 4 runs (killed 2) | 3 of 4 |") and "tests.reliability kills" in row


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("hostile", 12),
        *(
            pytest.param(name, count, marks=pytest.mark.full)
            for name, count in (("hostile", 60), ("kills", 4), ("faults", 8), ("resume", 2), ("sockets", 3))
        ),
    ],
)
def test_a_few_cases_hold(tmp_path, name, count):
    file = tmp_path / "found.json"
    command = [sys.executable, "-m", "tests.reliability", name, f"--count={count}", f"--out={file}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    (found,) = json.loads(file.read_text("utf-8"))["rows"]
    assert found["name"] == name and found["tried"] == found["passed"] > 0
