"""What a run gives to whoever shows it: the way in words, rows of a summary, plain values."""

import json

import pytest
import torch
from torch.nn import functional as F

from tests.tiny import TinyHost
from tests.unit.runs import config, run, stack_on
from unlearn_core import TrainingFailed
from unlearn_core.evaluate.evaluator import Evaluator
from unlearn_core.method.closed_form import Edit
from unlearn_core.method.fit import Fit
from unlearn_core.method.forget import summary

REPORT = {
    "concept": "banana",
    "anchor": "pear",
    "reason": "given by the artist",
    "way": "at once, without training",
    "stack": [],
    "stopped": "",
    "seconds": 12.4,
    "check": {
        "forgotten_before": 0.1,
        "forgotten_after": 0.95,
        "preserved_before": 1.0,
        "preserved_after": 0.876,
        "verdict": "forgotten, the rest preserved",
    },
}


@pytest.mark.parametrize(
    "fit, words",
    [
        (Fit({}, 30.0), "at once, without training"),
        (
            Fit({}, 30.0, 40, 9.0, "", "against learned words"),
            "at once, then 40 steps of training against learned words",
        ),
        (Fit({}, 0.0, 120, 9.0, "one pass"), "training, 120 steps"),
    ],
)
def test_the_way_in_words(fit, words):
    assert fit.way == words


def test_a_summary_of_a_checked_run():
    assert summary(REPORT) == [
        ("Forget", "banana"),
        ("Draws instead", "pear"),
        ("Why", "given by the artist"),
        ("Result", "forgotten, the rest preserved"),
        ("Pictures read as the target", "90% before, 5% after"),
        ("Pictures of other concepts read right", "100% before, 88% after"),
        ("How", "at once, without training"),
        ("Time", "12 s"),
    ]


def test_a_summary_of_a_stopped_run_on_a_stack_without_an_anchor():
    check = {"forgotten_before": 0.1, "verdict": "not checked: the run was stopped"}
    told = {"anchor": "", "stack": ["frog", "ink"], "stopped": "stopped at step 7", "check": check}
    rows = dict(summary(REPORT | told))
    assert rows["Draws instead"] == "nothing in its place" and rows["On top of"] == "frog, ink"
    assert rows["Stopped"] == "stopped at step 7" and rows["Result"] == check["verdict"]
    assert not any(label.startswith("Pictures") for label in rows)


def test_a_report_is_plain_values_and_its_summary_the_results_own():
    host = TinyHost()
    result = run(host, config(), stack_on(host, {"concept": "frog"}))
    assert json.loads(json.dumps(result.report)) == result.report
    assert result.summary() == summary(result.report)
    # what a random network knows and what is harmed in it is chance
    labels = [label for label, _ in result.summary() if label not in ("Not known by this model", "What to do")]
    assert labels == [*dict(summary(REPORT))][:-1] + ["On top of", "Time"]
    assert all(isinstance(text, str) and text for row in result.summary() for text in row)


def test_a_summary_says_what_to_do_about_harm():
    check = REPORT["check"] | {"verdict": "forgotten, but 'dog' and others are harmed"}
    rows = dict(summary(REPORT | {"check": check}))
    assert "name it under 'Keep'" in rows["What to do"] and "What to do" not in dict(summary(REPORT))
    assert "What to do" not in dict(summary(REPORT | {"check": check, "withheld": "Nothing was handed on."}))


def test_a_report_says_which_words_under_keep_no_list_names():
    result = run(TinyHost(), config(keep=("cat", "qwertzu")))
    assert result.report["keep_unnamed"] == ["qwertzu"]
    label = "Kept, but in no word list"
    assert dict(result.summary())[label] == "qwertzu" and label not in dict(summary(REPORT))


def test_a_summary_says_what_is_not_known_not_kept_and_not_tried():
    check = {"forgotten_before": 0.0, "forgotten_after": 1.0, "verdict": "forgotten; ...", "not_known": ["drum", "gun"]}
    told = {"check": check, "remark": "Training needs peft.", "withheld": "Nothing was handed on."}
    rows = dict(summary(REPORT | told))
    assert rows["Not known by this model"] == "drum, gun" and "Pictures of other concepts read right" not in rows
    assert rows["Not tried further"] == told["remark"] and rows["Not kept"] == told["withheld"]


class Harmful(TinyHost):
    """Its layers that read text answer with infinity as soon as they are changed."""

    def denoise(self, x, sigma, conditioning):
        keys = self.backbone.blocks[0].attn2.to_k
        out = super().denoise(x, sigma, conditioning)
        tokens = conditioning.tokens
        changed = not torch.equal(keys(tokens), F.linear(tokens, keys.weight))
        return out * float("inf") if changed else out


@pytest.fixture
def blind(monkeypatch):
    monkeypatch.setattr(Evaluator, "still_generated", lambda *_: False)
    monkeypatch.setattr(Evaluator, "gone", lambda *_: True)


def test_a_delta_with_which_the_model_draws_no_numbers_is_withheld_unless_forced(blind):
    result = run(Harmful(), config(closed_form=True))
    assert "NaN" in result.withheld and result.report["withheld"] == result.withheld
    assert result.report["check"]["verdict"].startswith("not forgotten, but")
    forced = run(Harmful(), config(closed_form=True, force=True))
    assert forced.withheld == forced.report["withheld"] == "" and forced.report["check"] == result.report["check"]


def test_a_delta_that_harms_what_the_model_knows_is_withheld_unless_forced(blind, monkeypatch):
    shares = iter([1.0, 0.5, 1.0, 0.5])
    plain = Evaluator.preserved_shares
    monkeypatch.setattr(Evaluator, "preserved_shares", lambda *given: dict.fromkeys(plain(*given), next(shares)))
    assert "in 50% with it" in run(TinyHost(), config(closed_form=True)).withheld
    assert run(TinyHost(), config(closed_form=True, force=True)).withheld == ""


class BrokenAutoencoder(TinyHost):
    """Its autoencoder gives NaN from a number of pictures on."""

    def __init__(self, after):
        super().__init__()
        self.after = after

    def decode(self, latents):
        self.after -= 1
        return super().decode(latents) * (float("nan") if self.after < 0 else 1)


def test_an_autoencoder_that_gives_no_numbers_is_an_error_before_the_work(blind):
    seen = []
    with pytest.raises(TrainingFailed, match=r"\(VAE\).*full precision"):
        run(BrokenAutoencoder(0), config(closed_form=True), progress=lambda r: seen.append(r.phase))
    assert "editing" not in seen
    assert "(VAE)" in run(BrokenAutoencoder(1), config(closed_form=True)).withheld


def test_a_change_that_comes_out_as_nothing_is_no_result(blind, monkeypatch):
    monkeypatch.setattr(
        Edit, "factors", lambda self, weights, *_: ((p, torch.ones(1, 16), torch.zeros(16, 1)) for p in weights)
    )
    with pytest.raises(TrainingFailed, match="Nothing was handed on.*would change nothing"):
        run(TinyHost(), config(closed_form=True))
