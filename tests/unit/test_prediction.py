"""What a model was taken to predict goes with its deltas, and a contradiction is refused."""

import pytest

from tests.few import reduced
from tests.small import BASE, A, a_delta, stack_of
from tests.tiny import TinyHost
from tests.unit.runs import config, run, stack_on
from unlearn_core import load, save
from unlearn_core.cli.main import main
from unlearn_core.delta.removal import without
from unlearn_core.delta.stack import check_fits
from unlearn_core.demo.recognition import CHECKPOINT
from unlearn_core.errors import BadDelta, BadSetting
from unlearn_core.method.retrain import retrain

V = {"prediction_type": "v_prediction"}


@pytest.fixture
def tiny(monkeypatch):
    """The tiny host in place of any checkpoint, which predicts what it is told to; what it was told."""
    told = []

    def made(*_, prediction_type="", **__):
        told.append(prediction_type)
        host = TinyHost()
        host.prediction_type, host.title = prediction_type or "epsilon", ""
        return host

    monkeypatch.setattr("unlearn_core.standalone.model.StandaloneModel", made)
    monkeypatch.setattr("unlearn_core.cli.stack.print_reports", lambda *_: None)
    with reduced("unlearn_core"):
        yield told


def files(folder, facts=V):
    """Two deltas of the tiny host, the second on top of the first."""
    host = TinyHost()
    host.prediction_type = facts["prediction_type"]
    stack = stack_on(host, {"concept": "banana", **facts})
    second = run(host, config(concept="frog", anchor="elephant", closed_form=True, quality="quick"), stack).delta
    paths = [str(folder / f"{name}.safetensors") for name in ("a", "b")]
    for delta, path in zip((stack.entries[0].delta, second), paths, strict=True):
        save(delta, path)
    return paths


def test_a_delta_of_another_prediction_does_not_fit():
    names = A.factors.keys()
    stack = stack_of((A, 1.0), (a_delta("owl", 5, **V), 1.0))
    assert check_fits(stack, BASE, "sd1", names) == 6
    assert check_fits(stack_of((A, 1.0)), BASE, "sd1", names, prediction_type="epsilon") == 3
    with pytest.raises(BadDelta, match="'owl' was made on a model that predicts v_prediction, .* epsilon"):
        check_fits(stack, BASE, "sd1", names, prediction_type="epsilon")


def test_the_same_checkpoint_in_another_precision_is_explained():
    with pytest.raises(BadDelta, match=r"for the base .* numbers of another type \(bfloat16, fp8, quantised\)"):
        check_fits(stack_of((A, 1.0)), "f" * 16, "sd1", A.factors.keys())


def test_a_request_on_top_of_another_prediction_is_refused():
    host = TinyHost()
    with pytest.raises(BadDelta, match="--prediction v_prediction"):
        run(host, config(), stack_on(host, {"concept": "owl", **V}))


def test_what_is_made_anew_keeps_its_prediction(tiny, tmp_path):
    new, paths = tmp_path / "new", files(tmp_path)
    arguments = ["stack", *paths, "--without", "a", "--retrain", "--checkpoint", str(CHECKPOINT), "--out", str(new)]
    assert main(arguments) == 0 and tiny == ["v_prediction"]
    assert load(new / "b.safetensors").info.prediction_type == "v_prediction"


def test_another_prediction_by_hand_is_refused(tiny, tmp_path, capsys):
    paths, out = files(tmp_path), ["--checkpoint", str(CHECKPOINT), "--out", str(tmp_path / "new")]
    assert main(["stack", *paths, "--without", "a", "--retrain", *out, "--prediction", "epsilon"]) == 1
    assert "predicts v_prediction" in capsys.readouterr().err
    preview = [
        "preview",
        "--checkpoint",
        str(CHECKPOINT),
        "--prompts",
        "a",
        "--out",
        str(tmp_path / "p.png"),
        "--stack",
        paths[0],
    ]
    assert main(preview) == 1
    assert "--prediction v_prediction" in capsys.readouterr().err
    assert main([*preview, "--prediction", "v_prediction", "--steps", "1"]) == 0


def test_deltas_of_two_predictions_are_no_stack(tiny, tmp_path, capsys):
    paths = files(tmp_path)
    save(stack_on(TinyHost(), {"concept": "owl"}, size=0.2).entries[0].delta, tmp_path / "c.safetensors")
    both = [
        paths[0],
        str(tmp_path / "c.safetensors"),
        "--checkpoint",
        str(CHECKPOINT),
        "--out",
        str(tmp_path / "m.safetensors"),
    ]
    assert main(["stack", *both]) == 1
    assert "epsilon and v_prediction" in capsys.readouterr().err


def test_making_anew_on_a_model_of_another_prediction_is_refused():
    host = TinyHost()
    stack = stack_on(host, {"concept": "banana", **V}, {"concept": "frog", "config": {"concept": "frog"}, **V})
    with pytest.raises(BadSetting, match="'frog' was made on a model that predicts v_prediction"):
        retrain(host, without(stack, "banana"))


def test_prompts_that_are_cut_are_said(tiny, tmp_path, capsys):
    long = " ".join(["word"] * 100)
    out = ["--out", str(tmp_path / "p.png"), "--steps", "1"]
    assert main(["preview", "--checkpoint", str(CHECKPOINT), "--prompts", long, "a cat", *out]) == 0
    said = capsys.readouterr().err
    assert said.count("longer than the 75 tokens that are read") == 1 and "a cat" not in said
