"""The judge and the choice of an anchor, on models whose pictures are known."""

import pytest
import torch

from tests.tiny import TinyHost
from unlearn_core import ForgetConfig, UnlearnError
from unlearn_core.evaluate.diffusion_classifier import read_as, reading_errors
from unlearn_core.evaluate.evaluator import Answers, summary
from unlearn_core.host import Conditioning
from unlearn_core.method.anchor import GATE_STEPS, choose, share_read_as_target
from unlearn_core.sampling import LatentBank, sample
from unlearn_core.words.prompts import REMOVED, mapped, scenes
from unlearn_core.words.word_list import WordList


class Pictures(TinyHost):
    """Draws for each prompt one fixed picture: the mean of the colours of the words that it names."""

    def __init__(self, colours, default=0.0):
        super().__init__()
        self.colours, self.default = colours, default

    def encode(self, prompts):
        seen = [[c for w, c in self.colours.items() if w in p.replace(",", " ").split()] for p in prompts]
        return Conditioning(torch.tensor([sum(s) / len(s) if s else self.default for s in seen]).view(-1, 1, 1))

    def denoise(self, x, sigma, conditioning):
        return conditioning.tokens.mean((1, 2)).view(-1, 1, 1, 1).expand_as(x)


def test_reading_errors_by_hand():
    host = Pictures({"red": 1.0, "blue": -1.0})
    latents = torch.full((1, *host.latent_shape), 1.0)
    errors = reading_errors(host, latents, [host.encode(["red"]), host.encode(["blue"])], 0)
    assert errors[0, 0] == pytest.approx(0.0, abs=1e-6)
    sigmas = host.sigmas[[int(part * 99) for part in (0.25, 0.4, 0.55, 0.7, 0.85)]]
    assert errors[0, 1].item() == pytest.approx((4 / sigmas**2).mean().item(), rel=1e-4)


def test_pictures_are_read_as_what_they_show():
    host = Pictures({"red": 1.0, "blue": -1.0})
    latents = torch.tensor([0.8, -0.7, 0.1]).view(3, 1, 1, 1).expand(3, *host.latent_shape)
    assert read_as(host, latents, [host.encode(["red"] * 3), host.encode(["blue"] * 3)], 0).tolist() == [0, 1, 0]


def chosen(colours, anchor="", forgotten=(), default=5.0, taken=(), concept="banana"):
    host = Pictures(colours, default)
    words = WordList.load(host.words_file)
    config = ForgetConfig(concept=concept, anchor=anchor, sampling_steps=2)
    asked = scenes(words, concept, "object", 12, 0)[:6]
    bank = LatentBank.draw(host, host.encode([s.prompt for s in asked]), 1, 0, 2)
    known = asked, bank.latents[:, 0], host.encode([""])
    return choose(host, config, concept, "object", words, *known, forgotten, taken)


def test_nearest_that_no_longer_draws_the_target_is_chosen():
    colours = {"banana": 1.0, "pear": 1.0, "apple": 0.4, "fruit": 1.0}
    made = chosen(colours)
    assert made.anchor == "apple" and made.neighbours[:2] == ("pear", "apple")
    assert made.refused == {"pear": 1.0}
    assert "pear" in made.why


def test_a_category_stands_in_only_where_nothing_else_does():
    words = WordList.load(Pictures({}).words_file)
    drawn_by_all = dict.fromkeys(words.all_objects, 1.0)
    assert chosen({"banana": 1.0, "fruit": 0.9, "pear": 0.4}).anchor == "pear"
    assert chosen(drawn_by_all | {"fruit": 0.4}).anchor == "fruit"
    assert chosen(drawn_by_all | {"fruit": 1.0}).anchor == REMOVED


def test_earlier_targets_are_never_chosen():
    assert chosen({"banana": 1.0, "pear": 0.7, "apple": 0.4}, forgotten=("Pear",)).anchor == "apple"


def test_what_belongs_to_a_category_never_stands_in_for_it():
    colours = {"fruit": 1.0, "pear": 0.8, "dog": 0.3}
    made = chosen(colours, concept="fruit")
    assert made.neighbours[0] == "pear" and made.anchor == "dog"
    assert chosen(colours | {"banana": 1.0}).anchor == "pear"
    assert chosen(colours | {"banana": 1.0}, forgotten=("FRUIT",)).anchor == "dog"


def test_what_already_stands_in_for_something_comes_last():
    colours = {"banana": 1.0, "pear": 0.7, "apple": 0.4}
    assert chosen(colours, taken=("Pear",)).anchor == "apple"
    everything = (*WordList.load(Pictures(colours).words_file).all_objects, "fruit")
    assert chosen(colours, taken=everything).anchor == "pear"


@pytest.mark.parametrize(
    ("hits", "allowed", "share"),
    [
        ((), 0.1, 0),
        ((12,), 0.1, 1 / 16),
        ((3,), 0.1, 1 / 16),
        ((12,), 0, 1 / 16),
        ((3, 6, 12), 0.1, 2 / 8),
        ((3,), 0, 1 / 8),
    ],
)
def test_the_gate_stops_drawing_where_it_is_certain(monkeypatch, hits, allowed, share):
    """hits: numbers of the pictures that read as the target; whatever the part, a picture is the same."""
    made = []

    def reading(host, latents, *_):
        made.append(latents)
        return torch.tensor([int(i not in hits) for i in range(len(latents))])

    monkeypatch.setattr("unlearn_core.choice.read_as", reading)
    host = TinyHost()
    words = WordList.load(host.words_file)
    asked = scenes(words, "banana", "object", 16, 0)
    config = ForgetConfig(concept="banana", seed=2)
    given = config, "object", words, asked, "pear", host.encode([""])
    assert share_read_as_target(host, *given, allowed, lambda: None) == pytest.approx(share)
    prompts = host.encode([mapped(s, "pear", "object", words).prompt for s in asked])
    whole = sample(host, prompts, config.seed + 3, GATE_STEPS, config.guidance, host.encode([""]))
    assert torch.allclose(made[-1], whole[: len(made[-1])], atol=1e-5)


def test_the_artists_own_anchor_is_taken_as_it_is():
    made = chosen({"banana": 1.0, "pear": 0.7, "kiwi": 0.2}, anchor="kiwi")
    assert made.anchor == "kiwi" and "artist" in made.why


def test_nothing_that_passes_is_an_error_that_names_the_way_out():
    # everything draws exactly the target
    with pytest.raises(UnlearnError, match="--anchor"):
        chosen({}, default=1.0)


def test_summary_in_numbers_and_words():
    before = Answers(1.0, {"cat": 1.0, "dog": 1.0}, torch.zeros(0), ())
    kept = summary(before, Answers(0.0, {"cat": 1.0, "dog": 1.0}, torch.zeros(0), ()))
    assert (kept["forgotten_before"], kept["forgotten_after"], kept["kept_after"]) == (0.0, 1.0, 1.0)
    assert kept["verdict"] == "forgotten, the rest kept"
    harmed = summary(before, Answers(0.4, {"cat": 0.5, "dog": 1.0}, torch.zeros(0), ()))
    assert harmed["worst_neighbour"] == {"concept": "cat", "lost": 0.5}
    assert harmed["verdict"].startswith("partly forgotten") and "harmed" in harmed["verdict"]
    assert "not judged" in summary(before, None)["verdict"]
