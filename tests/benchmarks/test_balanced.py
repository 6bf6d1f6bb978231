"""The stack of a finished run is balanced and counted as the run was. Default tests, 15 seconds."""

from dataclasses import replace

import pytest

from benchmarks import balanced as module
from benchmarks.balanced import NAME, main, of_run
from benchmarks.results import key_of
from benchmarks.run import Plan, SequenceRun
from tests.benchmarks.least import LEAST
from unlearn_core.demo.recognition import CHECKPOINT
from unlearn_core.errors import BadSetting
from unlearn_core.standalone.model import StandaloneModel

SPEC = "ours:quality=quick"


@pytest.fixture(scope="module")
def host():
    """The demo model at half its side."""
    return StandaloneModel(CHECKPOINT, resolution=64)


@pytest.fixture(scope="module")
def finished(host, tmp_path_factory):
    """The plan and folder of a run of two requests."""
    recipes = {kind: replace(recipe, reach_rounds=1, reach_pictures=(1, 0)) for kind, recipe in LEAST.items()}
    plan = Plan("A", (SPEC,), 1, requests=2, pictures=2, steps=1, recipes=recipes)
    run = SequenceRun(plan, tmp_path_factory.mktemp("run"), host)
    run.all_seeds(lambda part, words: None)
    return plan, run


def test_the_stack_is_counted_again_as_one_delta(host, finished, tmp_path):
    plan, done = finished
    run = SequenceRun(plan, tmp_path, host)
    row = of_run(run, done, SPEC, 0)
    last = done.results.rows[key_of({"method": SPEC, "sequence": "A", "seed": 0, "request": 2})]
    assert (row["method"], row["request"], row["sequence"]) == (NAME, 2, "A")
    assert row.keys() >= last.keys(), "a row has all that a run's has"
    assert row["row_passes"] > 0 and row["seconds"] > 0 and len(row["moved_by"]) == 2
    assert set(row["recognised"]) == {"banana", "frog"}
    run.results.add(row)
    assert key_of(row) in SequenceRun(plan, tmp_path, host).results.rows
    assert (plan.folder(tmp_path, NAME, 0) / "balanced.safetensors").is_file()


def test_a_run_that_is_not_finished_is_refused(host, finished, tmp_path):
    plan, done = finished
    longer = replace(plan, requests=3)
    with pytest.raises(BadSetting, match="not a finished run"):
        of_run(SequenceRun(longer, tmp_path, host), SequenceRun(longer, done.results.folder, host), SPEC, 0)


def test_the_command_says_what_it_has_found(monkeypatch, tmp_path, capsys):
    facts = {"method": NAME, "sequence": "ten-0", "seed": 0, "request": 10, "ua_all": 0.95, "moved_by": [0.2, 0.1]}
    monkeypatch.setattr(module, "opened", lambda name, device: None)
    monkeypatch.setattr(module, "of_run", lambda run, done, spec, seed: facts)
    assert main([str(tmp_path), "ten-0", "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out == "ten-0 seed 0: forgotten 95.0%, change of the rest 20.00% -> 10.00%\n"
    assert main([str(tmp_path), "no-such", "--out", str(tmp_path / "out")]) == 1
