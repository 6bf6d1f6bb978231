"""Other ways of asking for what is forgotten, at the smallest scale; samplers and attacks where the answer is known."""

import json

import pytest
import torch

from benchmarks import attacks, grids, robustness, samplers
from benchmarks.learned import under
from benchmarks.robustness import Way, measure, misspelt, reworded, ticks
from benchmarks.run import Plan, SequenceRun
from benchmarks.samplers import Guided
from tests.benchmarks.least import LEAST
from tests.tiny import TinyHost
from unlearn_core.demo.recognition import CHECKPOINT, Question
from unlearn_core.errors import BadSetting
from unlearn_core.host import Conditioning
from unlearn_core.sampling import LatentBank, noise, schedule
from unlearn_core.standalone.model import StandaloneModel


class OnePicture(TinyHost):
    """Its every prompt draws one grey, whose value is the prompt's."""

    def denoise(self, x, sigma, conditioning):
        return conditioning.tokens.mean((1, 2)).view(-1, 1, 1, 1).expand_as(x)


@pytest.mark.parametrize("sampler", [samplers.plain_euler, samplers.dpm_2m, samplers.euler_ancestral])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_samplers_end_at_what_the_model_is_sure_of(sampler, guidance):
    host = OnePicture()
    named, unnamed = Conditioning(torch.tensor([0.5, -0.25]).view(2, 1, 1)), Conditioning(torch.full((1, 1, 1), 0.1))
    start = noise((2, *host.latent_shape), 0, host.device)
    x = sampler(Guided(host, named, unnamed, guidance), start, schedule(host, 6), 0)
    wanted = 0.1 + guidance * (named.tokens.view(-1) - 0.1)
    assert torch.allclose(x, wanted.view(2, 1, 1, 1).expand_as(x), atol=1e-4)


def test_two_orders_beat_one_on_a_curve():
    """D = x / (1 + sigma^2) is exact for normal data: the true end is the start over sqrt(1 + sigma_0^2)."""

    class Normal(TinyHost):
        def denoise(self, x, sigma, conditioning):
            return x / (1 + sigma.view(-1, 1, 1, 1) ** 2)

    host, one = Normal(), Conditioning(torch.zeros(1, 1, 1))
    start, sigmas = noise((1, *host.latent_shape), 1, host.device), schedule(host, 12)
    true = sigmas[0] * start / (1 + sigmas[0] ** 2).sqrt()
    guided = Guided(host, one, one, 1.0)
    off = [float((s(guided, start, sigmas, 0) - true).abs().mean()) for s in (samplers.plain_euler, samplers.dpm_2m)]
    assert off[1] < off[0]


def test_words_are_changed_as_promised():
    assert [misspelt("banana", n) for n in range(3)] == ["bbanana", "baana", "bannaa"]
    question = Question("a flat cat", "cat", "flat")
    assert "cat" in reworded(question, 1) and reworded(question, 1) != question.caption


@pytest.fixture(scope="module")
def host():
    return StandaloneModel(CHECKPOINT)


def test_a_word_is_only_there_within_its_block(host):
    asked = ["a ~", "a cat"]
    before = attacks.read(host, asked)
    with attacks.word(host, torch.randn(host.encoders[0].model.config.hidden_size)):
        now = attacks.read(host, asked)
    again = attacks.read(host, asked)
    assert torch.equal(before.tokens, host.encode(asked).tokens)
    assert not torch.equal(now.tokens[0], before.tokens[0]) and torch.equal(now.tokens[1], before.tokens[1])
    assert torch.equal(again.tokens, before.tokens)


@pytest.mark.full
def test_a_word_learned_against_the_base_model_explains_its_pictures(host, monkeypatch):
    monkeypatch.setattr(attacks, "WORD_STEPS", 30)
    captions = [f"a banana in {s} style" for s in ("flat", "ink", "glossy", "blob")]
    bank = LatentBank.draw(host, host.encode(captions), 1, 0, 6)
    asked = [c.replace("banana", attacks.SPARE) for c in captions]
    vector = attacks.learned_word(host, bank, asked, "picture", 0)

    def loss(v):
        with torch.no_grad(), attacks.word(host, v):
            which = torch.arange(4).repeat(8)
            named = attacks.read(host, [asked[i] for i in which.tolist()])
            return float(attacks.explained(host, bank, which, named, torch.Generator().manual_seed(1)))

    encoder = host.encoders[0]
    start = encoder.model.get_input_embeddings().weight[encoder.tokens(["picture"])[0, 1]].detach()
    assert loss(vector) < 0.97 * loss(start)


def test_a_sequence_that_was_not_run_is_not_asked(host, tmp_path):
    with pytest.raises(BadSetting, match="run the sequence"):
        measure(Plan("A", ("uce",), 1, 1, 2), tmp_path, host, lambda words: None)


@pytest.mark.full
def test_every_way_is_measured(tmp_path, monkeypatch):
    host = StandaloneModel(CHECKPOINT, resolution=64)
    for name in ("WORD_STEPS", "TUNED_STEPS"):
        monkeypatch.setattr(attacks, name, 1)
    monkeypatch.setattr(robustness, "TUNED_ON", 4)
    monkeypatch.setattr(grids, "STEPS", 1)
    ways = (Way("plain", steps=2), Way("typed", robustness.mistyped, steps=2))
    plan = Plan("A", ("ours:quality=quick",), 1, 1, 2, steps=2, recipes=LEAST)
    SequenceRun(plan, tmp_path, host).all_seeds(lambda part, words: None)
    seen = []
    (rows,) = measure(plan, tmp_path, host, seen.append, ways, 2).values()
    assert len(seen) == ticks(plan, ways) and len(rows) == len(ways) + 2
    for row in rows:
        assert all(0 <= row[f"{k}_{n}"] <= 1 for k in ("recognised", "worst") for n in ("base", "after"))
    assert json.loads((tmp_path / "robustness.json").read_text("utf-8"))
    assert "| typed |" in (tmp_path / "robustness.md").read_text("utf-8")


def test_training_on_other_pictures_is_undone(host, monkeypatch):
    monkeypatch.setattr(attacks, "TUNED_STEPS", 1)
    before = {k: v.clone() for k, v in host.backbone.state_dict().items()}
    bank = LatentBank.draw(host, host.encode(["a flat cat"] * 2), 1, 0, 2)
    with under(host, ()), attacks.tuned(host, bank, 0):
        assert any(not torch.equal(v, before[k]) for k, v in host.backbone.state_dict().items())
    assert all(torch.equal(v, before[k]) for k, v in host.backbone.state_dict().items())
