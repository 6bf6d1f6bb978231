"""What is measured on short paths of sampling: harm that no list names, and what a quick run looks at."""

from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from tests.tiny import TinyHost
from tests.unit.runs import Pictures, config, opened, run
from unlearn_core import TrainingFailed
from unlearn_core.evaluate.glance import SIDE, Glance
from unlearn_core.evaluate.outside import LONGEST, Outside
from unlearn_core.evaluate.remembered import Remembered
from unlearn_core.evaluate.trail import Trail
from unlearn_core.method.anchor import Anchor
from unlearn_core.method.checks import glance_for, outside_for
from unlearn_core.recipe import OBJECT, SMALL
from unlearn_core.sampling import Sampler, schedule
from unlearn_core.words.prompts import names


class Changed(Pictures):
    """Pictures whose colours can be changed for some words."""

    def __init__(self, **colours):
        super().__init__(colours, 0.0)
        self.first = self.colours

    def change(self, **colours):
        self.colours = {**self.first, **colours}

    @contextmanager
    def unchanged(self):
        now, self.colours = self.colours, self.first
        yield
        self.colours = now


def encoded_when_asked(host):
    """`Pictures` decides by the prompt, at encoding: here it decides at each pass, as a changed model would."""
    host.prompts = {}

    def encode(prompts):
        numbers = [host.prompts.setdefault(p, len(host.prompts)) for p in prompts]
        return type(host.plain(["x"]))(torch.tensor(numbers).float().view(-1, 1, 1))

    def denoise(x, sigma, conditioning):
        texts = list(host.prompts)
        seen = host.plain([texts[int(n)] for n in conditioning.tokens.flatten()])
        return seen.tokens.view(-1, 1, 1, 1).expand_as(x)

    host.plain, host.encode, host.denoise = host.encode, encode, denoise
    return host


@torch.no_grad()
def test_a_trail_is_the_samplers_own_path():
    host = TinyHost()
    rows = host.encode(["a cat", "a dog"])
    trail = Trail.draw(host, rows, 3, 5)
    assert trail.x.shape == (6, *host.latent_shape) and trail.prompts == 2
    assert torch.equal(trail.sigma, schedule(host, 3)[:-1].repeat_interleave(2))
    last, sigma = trail.x[4:], trail.sigma[4]
    assert torch.allclose(last - sigma * trail.directions[4:], Sampler(host, 3, 1.0).draw(rows, 5), atol=1e-5)
    assert torch.allclose(trail.asked(host, rows), trail.directions, atol=1e-5)
    assert trail.apart(
        trail.directions, trail.directions + torch.tensor([1.0, 2.0] * 3).view(-1, 1, 1, 1)
    ).tolist() == [
        pytest.approx(1.0),
        pytest.approx(4.0),
    ]


def test_its_latents_may_be_smaller_than_the_models_own():
    host = TinyHost()
    assert Trail.draw(host, host.encode(["a cat"]), 2, 5, side=2).x.shape == (2, 4, 2, 2)
    assert Trail.draw(host, host.encode(["a cat"]), 2, 5, side=SIDE).x.shape == (2, *host.latent_shape)


def test_what_changes_outside_is_told_as_a_part_of_the_targets_way():
    host = encoded_when_asked(Changed(banana=1.0, toy=0.5, stone=-1.0))
    host.change(banana=0.0, toy=0.0)
    outside = Outside(("a toy", "a stone"), ("a banana",), 4, host.unchanged)
    found = outside.changes(host, 0)
    assert found == {"a toy": pytest.approx(0.25), "a stone": pytest.approx(0.0, abs=1e-6)}


@pytest.mark.parametrize("clear, rows", [(-1.0, 2 * 3 * 4), (0.5, 2 * 3), (0.1, 2 * 3 + 2 * 2 * 4)])
def test_only_paths_that_the_first_point_does_not_clear_are_gone_to_their_end(clear, rows):
    """clear: the toy has moved a quarter of the banana's way, the stone not at all."""
    host, asked = encoded_when_asked(Changed(banana=1.0, toy=0.5, stone=-1.0)), []
    host.change(banana=0.0, toy=0.0)
    denoise = host.denoise
    host.denoise = lambda x, *more: asked.append(len(x)) or denoise(x, *more)
    paths = Outside(("a toy", "a stone"), ("a banana",), 4, host.unchanged, Remembered(), clear)
    assert paths.changes(host, 0) == {"a toy": pytest.approx(0.25), "a stone": pytest.approx(0.0, abs=1e-6)}
    assert sum(asked) == rows


def test_a_path_that_was_gone_for_its_first_point_alone_is_gone_on_when_it_is_needed(tmp_path):
    host = encoded_when_asked(Changed(banana=1.0, toy=0.5))
    host.change(banana=0.0, toy=0.0)
    found = [
        Outside(("a toy",), ("a banana",), 4, host.unchanged, Remembered(tmp_path, "m"), clear).changes(host, 0)
        for clear in (0.5, 0.0, -1.0)
    ]
    assert all(f == {"a toy": pytest.approx(0.25)} for f in found)


def test_a_change_that_is_no_number_is_the_largest_and_no_change_is_none():
    host = encoded_when_asked(Changed(banana=1.0, toy=0.5))
    outside = Outside(("a toy",), ("a banana",), 2, host.unchanged)
    assert outside.changes(host, 0) == {}
    host.change(banana=1.0 + 1e-4, toy=0.0)
    assert outside.changes(host, 0) == {}, "what has hardly moved cannot be held against others"
    host.change(banana=0.0, toy=float("nan"))
    for paths in (outside, replace(outside, remembered=Remembered(), clear=0.25)):
        assert paths.changes(host, 0) == {"a toy": LONGEST}


def test_outside_prompts_name_nothing_that_goes_and_cost_little():
    with opened(TinyHost(), config(concept="ink", anchor="", going=("soft",)), recipes=None or SMALL) as opened_run:
        outside = outside_for(opened_run, ["bus"], ["pear", "flat"])
    assert "" in outside.prompts and not any(names(p, w) for p in outside.prompts for w in ("ink", "soft", "flat"))
    assert "a bus in bold style" in outside.prompts and not any("pear" in p for p in outside.prompts)
    with opened(TinyHost(), config()) as opened_run:
        recipe, outside = OBJECT, outside_for(opened_run, ["bus"], ["pear"])
    passes = 2 * recipe.trail_steps * (len(outside.prompts) + len(outside.targets))
    # pictures drawn with guidance and read: before, one try, and after
    looks = 4 * 16 * (16 + 15) + 2 * 16 * (16 + 30)
    assert passes <= 0.06 * looks


@pytest.mark.parametrize(
    "colour, near", [(1.0, 1.0), (0.0, 1.0), (-0.1, 1.0), (-0.2, 0.0), (-1.0, 0.0), (float("nan"), 1.0)]
)
def test_a_glance_tells_whose_answers_the_targets_prompts_have(colour, near):
    host = encoded_when_asked(Changed(banana=1.0, pear=-1.0))
    glance = Glance(host, ("a banana", "the banana"), ("a pear", "the pear"), host.unchanged, OBJECT, 0)
    glance.before()
    host.change(banana=colour)
    glance.after()
    assert glance.near == near


def test_a_glance_asks_with_prompts_that_nothing_was_learned_from():
    with opened(TinyHost(), config(quality="quick", closed_form=True)) as opened_run:
        glance = glance_for(opened_run, Anchor("pear", "", ()))
        held_out = [s.prompt for s in opened_run.request.held_out]
    assert list(glance.own) == held_out[: OBJECT.trail_prompts]
    assert all("pear" in p and "banana" not in p for p in glance.goal)


@pytest.mark.parametrize("layer", ["enter", "leave", "blocks.1.attn2.to_q", "blocks.0.attn2.to_v"])
@pytest.mark.parametrize("quality", ["quick", "normal"])
def test_weights_that_are_no_numbers_are_an_error_in_any_quality(layer, quality):
    host = TinyHost()
    host.backbone.get_submodule(layer).weight.data[0, 0] = float("nan")
    with pytest.raises(TrainingFailed, match="not finite.*full precision"):
        run(host, config(quality=quality, closed_form=True))
