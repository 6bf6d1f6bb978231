"""The bundled model, really used: what it draws, what it forgets, what it keeps, counted by its classifier."""

import json

import pytest
import torch

from unlearn_core import Stack, load
from unlearn_core.cli.main import main
from unlearn_core.demo.classifier import DemoClassifier
from unlearn_core.demo.recognition import CHECKPOINT, FOLDER, STEPS, Question, questions, recognition, world
from unlearn_core.evaluate.diffusion_classifier import read_as
from unlearn_core.recipe import OBJECT
from unlearn_core.sampling import Sampler
from unlearn_core.standalone.model import StandaloneModel
from unlearn_core.words.prompts import fill

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def host():
    return StandaloneModel(CHECKPOINT)


def captions(templates):
    w = world()
    pairs = [(o, s) for o in w["objects"] for s in w["styles"]]
    return [Question(fill(templates[(i + i // 13) % len(templates)], o, s), o, s) for i, (o, s) in enumerate(pairs)]


@pytest.mark.full
@pytest.mark.parametrize("kind", ["templates", "held_out_templates"])
def test_classifier_recognises_what_the_model_draws(host, kind):
    """96 pictures, about 20 s."""
    asked = captions(world()[kind])
    seen = recognition(host, Stack(), asked, seed=5)
    assert sum(o == q.obj for (o, _), q in zip(seen, asked, strict=True)) / len(asked) >= 0.97
    assert sum(s == q.style for (_, s), q in zip(seen, asked, strict=True)) / len(asked) >= 0.97


def test_classifier_calls_broken_pictures_other():
    net = DemoClassifier.load(FOLDER / "classifier.safetensors")
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(32, 3, 128, 128, generator=generator) * 2 - 1
    grey = torch.zeros(4, 3, 128, 128) + torch.linspace(-0.5, 0.5, 4).view(4, 1, 1, 1)
    answers = [o for o, _ in net.recognise(torch.cat([noise, grey]))]
    assert answers.count("other") >= 0.95 * len(answers)


ONE_PICTURE = 1 / 12
"""One picture of a concept's twelve is the finest step of its rate."""


@pytest.mark.full
def test_the_check_agrees_with_the_classifier(host):
    """96 pictures, each read as 24 objects and 4 styles: about 40 s."""
    asked = captions(world()["templates"])
    with torch.no_grad():
        drawn = Sampler(host, STEPS).draw(host.encode([q.caption for q in asked]), 5)
    seen = DemoClassifier.load(FOLDER / "classifier.safetensors").recognise(host.decode(drawn) * 2 - 1)
    for kind, names in (("obj", list(world()["objects"])), ("style", list(world()["styles"]))):
        readings = [host.encode([q.caption.replace(getattr(q, kind), n) for q in asked]) for n in names]
        read = [names[i] for i in read_as(host, drawn, readings, OBJECT.reading_levels, seed=0).tolist()]
        agreed = sum(a == b[kind == "style"] for a, b in zip(read, seen, strict=True)) / len(asked)
        print(f"check and classifier agree on the {kind} of {agreed:.1%} of {len(asked)} pictures")
        assert agreed >= 0.9


def run_demo(concept, out, *options):
    assert main(["demo", "--concept", concept, "--out", str(out), *options]) == 0
    report = json.loads((out / f"forget-{concept}.json").read_text(encoding="utf-8"))
    counted = report["classifier"]
    assert counted["target_before"] >= 0.97 and counted["target_after"] <= 0.02
    assert counted["others_after"] >= 0.98 * counted["others_before"]
    assert counted["styles_after"] >= 0.98 * counted["styles_before"]
    assert counted["broken_after"] <= counted["broken_before"]
    for rate in counted["per_concept"].values():
        assert rate["after"] >= max(0.9 * rate["before"], min(0.9, rate["before"] - ONE_PICTURE))
    assert report["unmatched_keys"] == 0
    assert (out / f"forget-{concept}.png").stat().st_size > 10_000
    return report


@pytest.fixture(scope="module")
def banana(tmp_path_factory):
    """The default path: one checked request and its counting, about 100 s on one core."""
    out = tmp_path_factory.mktemp("banana")
    return run_demo("banana", out), out / "forget-banana.safetensors"


def test_the_default_path_forgets_and_keeps_the_rest(banana):
    report, file = banana
    assert report["check"]["verdict"] == "forgotten, the rest preserved" and report["steps"] == 0
    assert load(file).info.concept == "banana"


def quick(concept, out, *more):
    options = ["--concept", concept, "--set", "quality=quick", "--out", str(out), *more]
    assert main(["forget", "--checkpoint", str(CHECKPOINT), *options]) == 0
    return out


def test_same_seed_gives_the_same_file(tmp_path):
    first, second = (quick("banana", tmp_path / name / "forget-banana.safetensors") for name in ("one", "two"))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.full
def test_a_style_on_top_keeps_the_first_forgotten(banana, tmp_path):
    """A second request, of a style: about 100 s."""
    report = run_demo("ink", tmp_path, "--stack", str(banana[1]))
    assert report["stack"] == ["banana"]
    assert report["classifier"]["per_concept"]["banana"]["after"] <= 0.02


@pytest.mark.full
def test_half_of_a_near_pair_stays(host, tmp_path):
    """Cat goes and dog, its nearest neighbour, stays, with the anchor that the checked run takes: about 20 s."""
    stack = Stack().with_delta(load(quick("cat", tmp_path / "cat.safetensors", "--anchor", "truck")))
    about, rest = questions("cat")
    dogs = [q for q in rest if q.obj == "dog"]
    before, after = ([o for o, _ in recognition(host, s, [*about, *dogs], 0)] for s in (Stack(), stack))
    gone, stayed = after[: len(about)], after[len(about) :]
    assert before[: len(about)].count("cat") >= 0.97 * len(about) and gone.count("cat") <= 0.02 * len(about)
    known = before[len(about) :].count("dog") / len(dogs)
    assert stayed.count("dog") / len(dogs) >= max(0.9 * known, min(0.9, known - ONE_PICTURE))
