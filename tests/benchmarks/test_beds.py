"""The flow models are what the documentation says, and their training goes on where it stopped; half a minute."""

import pytest
import torch
from safetensors.torch import load_file

from benchmarks.beds import train as training
from benchmarks.beds.data import Lesson, captions
from benchmarks.beds.train import Bed, train, weights_of
from benchmarks.methods import method
from benchmarks.models import MODELS, opened
from benchmarks.questions import look
from benchmarks.sequences import Request
from benchmarks.task import Task
from tests.benchmarks.least import LEAST as LEAST_WORK
from tests.benchmarks.stops import whole_and_in_parts
from unlearn_core.demo.recognition import Question, world
from unlearn_core.errors import BadSetting
from unlearn_core.words.prompts import fill

pytestmark = pytest.mark.full
LEAST = 0.97
"""Share of the things that a bed has to draw recognisably."""


def asked():
    """Each thing in each style once, in templates that take turns."""
    w = world()
    templates = [*w["templates"], *w["held_out_templates"]]
    pairs = [(o, s) for o in w["objects"] for s in w["styles"]]
    return [Question(fill(templates[5 * i % len(templates)], o, s), o, s) for i, (o, s) in enumerate(pairs)]


@pytest.mark.parametrize("name", ["flow", "flow-t5"])
def test_things_are_drawn_recognisably(name):
    questions = asked()
    seen = look(opened(name, "cpu"), questions, 0).answers
    assert sum(a.obj == q.obj for a, q in zip(seen, questions, strict=True)) / len(questions) >= LEAST


@pytest.mark.parametrize("spec", ["uce", "esd-lora:steps=1", "gem-lora:steps=1"])
@pytest.mark.parametrize("name", ["flow", "flow-t5"])
def test_published_methods_change_layers_that_a_flow_model_has(name, spec):
    """UCE the one layer where text enters; the others attention's text side."""
    host = opened(name, "cpu")
    learned = method(spec).learn(Task(host, Request("banana"), recipes=LEAST_WORK))
    if spec == "uce":
        assert list(learned.dense) == ["txt_in.weight"]
    else:
        assert learned.delta.factors and all(".attn.add_" in key for key in learned.delta.factors)


def test_an_unknown_model_is_refused():
    with pytest.raises(BadSetting, match="demo, flow, flow-t5"):
        opened("flux", "cpu")


def test_every_thing_is_in_the_captions_in_every_style():
    texts = captions()
    assert len(texts) == len(set(texts)) > 2000
    for obj in world()["objects"]:
        assert all(any(obj in t and style in t for t in texts) for style in world()["styles"]), obj


def test_a_training_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    lesson = Lesson(torch.randn(8, 4, 16, 16), torch.randn(8, 16, 128), ["x"] * 8, 1.0, torch.randn(1, 16, 128))
    monkeypatch.setattr(training, "EVERY", 1)
    monkeypatch.setattr(training, "BATCH", 4)

    def made(name):
        torch.manual_seed(0)
        return weights_of(train(Bed(None), lesson, tmp_path / name, 2), lesson.deviation)

    once, twice = whole_and_in_parts(monkeypatch, training, made)
    assert all(torch.equal(t, twice[n]) for n, t in once.items())
    assert load_file(MODELS["flow"]).keys() == once.keys()
