"""The bundled model, really used: what it draws, what it forgets, what it keeps, counted by its classifier."""

import json

import pytest
import torch

from unlearn_core import Stack
from unlearn_core.classifier import DemoClassifier
from unlearn_core.cli import main
from unlearn_core.demo import CHECKPOINT, FOLDER, Question, world
from unlearn_core.preview import pictures
from unlearn_core.prompts import fill
from unlearn_core.standalone import StandaloneModel

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def host():
    return StandaloneModel(CHECKPOINT)


def captions(templates):
    w = world()
    pairs = [(o, s) for o in w["objects"] for s in w["styles"]]
    return [Question(fill(templates[(i + i // 13) % len(templates)], o, s), o, s) for i, (o, s) in enumerate(pairs)]


@pytest.mark.parametrize("kind", ["templates", "held_out_templates"])
def test_classifier_recognises_what_the_model_draws(host, kind):
    asked = captions(world()[kind])
    drawn = pictures(host, Stack(), [q.caption for q in asked], seed=5, steps=20, guidance=3.0)
    seen = DemoClassifier.load(FOLDER / "classifier.safetensors").recognise(drawn * 2 - 1)
    assert sum(o == q.obj for (o, _), q in zip(seen, asked, strict=True)) / len(asked) >= 0.97
    assert sum(s == q.style for (_, s), q in zip(seen, asked, strict=True)) / len(asked) >= 0.97


def test_classifier_calls_broken_pictures_other():
    net = DemoClassifier.load(FOLDER / "classifier.safetensors")
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(32, 3, 128, 128, generator=generator) * 2 - 1
    grey = torch.zeros(4, 3, 128, 128) + torch.linspace(-0.5, 0.5, 4).view(4, 1, 1, 1)
    answers = [o for o, _ in net.recognise(torch.cat([noise, grey]))]
    assert answers.count("other") >= 0.95 * len(answers)


ONE_PICTURE = 0.125
"""One picture of a concept's eight is the finest step of its rate."""


@pytest.mark.parametrize(("concept", "left"), [("banana", 0.02), ("cat", 0.02), ("ink", 0.05)])
def test_demo_forgets_and_keeps(concept, left, tmp_path):
    assert main(["demo", "--concept", concept, "--out", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    counted = report["classifier"]
    assert counted["target_before"] >= 0.97 and counted["target_after"] <= left
    assert counted["others_after"] >= 0.98 * counted["others_before"]
    assert counted["styles_after"] >= 0.95 * counted["styles_before"]
    assert counted["broken_after"] <= counted["broken_before"] + 0.01
    assert all(r["after"] >= r["before"] - ONE_PICTURE for r in counted["per_concept"].values())
    assert report["unmatched_keys"] == 0
    assert (tmp_path / "before_after.png").stat().st_size > 10_000
