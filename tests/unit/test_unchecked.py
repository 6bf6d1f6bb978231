"""A run without the check: nothing is drawn or read, words choose the anchor, and no number is made up."""

import pytest
import torch

from tests.tiny import TinyHost
from tests.unit.runs import assert_same, run, state_of
from unlearn_core import BadSetting, Cancelled, ForgetConfig, Stack, UnlearnError, load, save
from unlearn_core.evaluate.evaluator import Evaluator
from unlearn_core.sampling import Sampler


def wish(concept="banana", **changes):
    return ForgetConfig(concept=concept, quality="quick", **changes)


class Silent(TinyHost):
    """Draws nothing."""

    def decode(self, latents):
        raise AssertionError("nothing is to be drawn")


@pytest.fixture(autouse=True)
def nobody_looks(monkeypatch):
    def drawn(*given, **named):
        raise AssertionError("nothing is to be drawn")

    monkeypatch.setattr(Sampler, "along", drawn)


def test_the_delta_is_the_first_closed_form_and_nothing_is_drawn(tmp_path):
    host, phases, fractions = Silent(), [], []
    before = state_of(host)
    result = run(host, wish(anchor="pear"), progress=lambda r: phases.append(r.phase) or fractions.append(r.fraction))
    assert_same(before, state_of(host))
    assert list(dict.fromkeys(phases)) == ["choosing", "editing"] and fractions == sorted(fractions)
    assert fractions[-1] == 1.0 and len({f for f in fractions if f < 1}) > 3
    assert result.before is result.after is None
    assert len(result.prompts) == 3 and all("banana" in p for p in result.prompts)
    assert result.report["way"] == "at once, without training" and result.report["stopped"] == ""
    assert result.delta.info.check.keys() == {"verdict", "scores_near_target"}
    assert result.delta.info.check["verdict"].startswith("not checked")
    assert (result.delta.info.anchor, result.delta.info.steps) == ("pear", 0)
    again = run(Silent(), wish(anchor="pear"))
    shas = [save(r.delta, tmp_path / f"{i}.safetensors") for i, r in enumerate((result, again))]
    assert shas[0] == shas[1]


def test_a_stop_at_the_last_word_comes_too_late():
    result = run(Silent(), wish(anchor="pear"), progress=lambda r: r.fraction == 1)
    assert result.report["stopped"] == result.delta.info.stopped == ""


def test_the_delta_is_that_of_the_checked_run_whose_first_edit_is_enough(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(Evaluator, "still_generated", lambda *given: False)
    monkeypatch.setattr(Evaluator, "gone", lambda *given: True)
    few = {"anchor": "pear", "sampling_steps": 2}
    checked = run(TinyHost(), ForgetConfig(concept="banana", **few)).delta
    unchecked = run(TinyHost(), wish(**few)).delta
    assert checked.factors.keys() == unchecked.factors.keys()
    for name, factor in checked.factors.items():
        assert torch.equal(factor.matrix(), unchecked.factors[name].matrix())
    assert checked.info.prompts == unchecked.info.prompts


def test_a_stack_is_solved_as_a_whole_and_its_parents_are_written():
    host = TinyHost()
    first = run(host, wish()).delta
    second = run(host, wish("frog"), Stack().with_delta(first))
    assert second.report["stack"] == ["banana"] and second.delta.info.anchor != first.info.anchor
    assert [p.concept for p in second.delta.info.parents] == ["banana"]


def test_a_rank_over_the_layers_own_makes_a_file_that_can_be_read(tmp_path):
    most, more = (run(TinyHost(), wish(anchor="pear", rank=r)).delta for r in (16, 40))
    save(more, tmp_path / "a.safetensors")
    for name, factor in load(tmp_path / "a.safetensors").factors.items():
        assert factor.rank == 16
        assert torch.allclose(factor.matrix(), most.factors[name].matrix(), atol=2e-3)


def test_a_stop_keeps_nothing():
    host = TinyHost()
    before = state_of(host)
    with pytest.raises(Cancelled, match="before anything"):
        run(host, wish(), progress=lambda r: r.phase == "editing")
    assert_same(before, state_of(host))


@pytest.mark.parametrize(
    "values",
    [
        {"closed_form": False, "quality": "quick"},
        {"closed_form": "no", "check": "no"},
        {"closed_form": "no", "check": False},
    ],
)
def test_training_without_the_check_is_refused(values):
    with pytest.raises(BadSetting, match="another quality than 'quick'"):
        ForgetConfig.from_flat({"concept": "banana", **values})


def test_a_model_without_a_closed_form_is_told_so():
    class Unordered(TinyHost):
        """Every token knows the whole prompt, as a T5's does."""

        def encode(self, prompts):
            tokens = super().encode(prompts)
            tokens.tokens[:] += tokens.tokens.mean(1, keepdim=True)
            return tokens

    host = Unordered()
    before = state_of(host)
    with pytest.raises(UnlearnError, match="choose the quality 'normal'"):
        run(host, wish(anchor="pear"))
    assert_same(before, state_of(host))
