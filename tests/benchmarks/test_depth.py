"""The benchmark of `depth`: which models are asked, that it goes on where it ended, and what becomes of its rows."""

import json

import pytest
import torch

from benchmarks import trials as running
from benchmarks.__main__ import main
from benchmarks.depth import ASKED, FILE, TUNED, Trial, measure, random_weights, record, summary, trials_of
from benchmarks.doc_results import depth as table
from unlearn_core.errors import BadSetting


def row(trial, learned, objects=0.9):
    ways = dict.fromkeys(ASKED, 0.0 if trial.depth != "base" else 1.0)
    run = {"seconds": 10.0 + trial.seed, "rounds": 2} if trial.depth == "deep" else {}
    tuned = dict.fromkeys(TUNED, 0.125) if trial.depth == "deep" else {}
    facts = {"name": trial.name, "concept": trial.concept, "seed": trial.seed, "depth": trial.depth, "run": run}
    return facts | ways | tuned | {"learned word": learned, "objects": objects, "styles": 0.8}


def test_controls_name_and_deep_of_each_concept_and_seed():
    trials = trials_of("banana, cat", [0, 1], {"rank": "4"})
    assert [t.name for t in trials[:4]] == ["banana-0-base", "banana-0-random", "banana-0-name", "banana-0-deep"]
    assert (
        len(trials) == 16 and trials[-1].settings == (("rank", "4"),) and trials[0].settings == trials[1].settings == ()
    )
    with pytest.raises(BadSetting, match="at least one concept"):
        trials_of(" , ", [0], {})


def test_rows_that_are_there_are_not_made_again(tmp_path, monkeypatch):
    asked, said = [], []

    def measured(trial, host, folder):
        asked.append(trial.name)
        return row(trial, 0.5)

    monkeypatch.setattr(Trial, "measured", measured)
    trials = trials_of("banana", [0], {})
    assert measure(None, tmp_path, trials[:2]) == json.loads((tmp_path / FILE).read_text())
    assert len(measure(None, tmp_path, trials, said.append)) == 4
    assert asked == [t.name for t in trials] and "learned word 50%" in said[3]


def test_a_row_of_the_table_is_the_mean_over_the_seeds_and_the_worst(tmp_path):
    shares = {("base", 0): 0.75, ("base", 1): 0.5, ("deep", 0): 0.0, ("deep", 1): 0.25}
    rows = [row(Trial("banana", seed, d), share, 0.9 if d == "base" else 0.45) for (d, seed), share in shares.items()]
    base, deep = summary(rows)
    assert base["learned word"] == [0.625, 0.75] and base["objects"] == [0.9, 0.9] and "seconds" not in base
    assert deep["learned word"] == [0.125, 0.25] and deep["objects"] == [0.45, 0.45] and deep["seconds"] == [10.5, 11.0]
    record(rows, "abc1234", "python -m benchmarks depth banana", tmp_path / FILE)
    lines = table(json.loads((tmp_path / FILE).read_text()))
    assert lines[3].startswith("| banana | deep | 2 | 0 % (0) | 0 % (0) | 0 % (0) | 12.5 % (25) | 45 % (45) |")
    assert (
        lines[3].endswith("| 80 % (80) | 12.5 % (12.5) | 12.5 % (12.5) | 2 (2) | 10.5 (11) | 1 |")
        and "abc1234" in lines[-1]
    )


def test_the_control_is_a_network_of_random_weights_and_the_same_for_a_seed():
    class Host:
        backbone = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))

    first, again, other = (random_weights(Host, seed).dense for seed in (0, 0, 1))
    weight = Host.backbone[0].weight.detach() + first["0.weight"]
    assert torch.equal(first["0.weight"], again["0.weight"]) and not torch.equal(first["0.weight"], other["0.weight"])
    assert weight.abs().max() <= 3**-0.5 and set(first) == {"0.weight", "0.bias", "1.weight", "1.bias"}


def test_the_command_says_what_is_missing(tmp_path, capsys):
    assert main(["depth", " ", "--out", str(tmp_path)]) == 1
    assert "at least one concept" in capsys.readouterr().err


def test_a_request_is_made_with_its_depth(tmp_path, monkeypatch):
    wishes = []

    def forget(host, config):
        wishes.append(config)
        raise BadSetting("seen")

    monkeypatch.setattr(running, "forget", forget)
    assert Trial("banana", 3, "base").learned(None, tmp_path) == ([], {})
    with pytest.raises(BadSetting, match="seen"):
        Trial("banana", 3, "deep", (("rank", "4"),)).learned(None, tmp_path)
    (wish,) = wishes
    assert (wish.concept, wish.seed, wish.depth, wish.rank) == ("banana", 3, "deep", 4)
