"""A run without the check: nothing is drawn or read, words choose the replacement, and no number is made up."""

import pytest
import torch

from tests.test_forget import assert_same, state_of
from tests.tiny import WORDS, TinyHost
from unlearn_core import BadSetting, Cancelled, ForgetConfig, Stack, UnlearnError, forget, load, save
from unlearn_core.evaluate.evaluator import Exam
from unlearn_core.method.anchor import choose_unseen
from unlearn_core.words.word_list import WordList


def wish(concept="banana", **changes):
    return ForgetConfig(concept=concept, check=False, **changes)


class Silent(TinyHost):
    """Draws nothing."""

    def decode(self, latents):
        raise AssertionError("nothing is to be drawn")


@pytest.fixture(autouse=True)
def nobody_looks(monkeypatch):
    def drawn(*given, **named):
        raise AssertionError("nothing is to be drawn")

    monkeypatch.setattr(Exam, "draw", drawn)


def test_the_delta_is_the_first_closed_form_and_nothing_is_drawn(tmp_path):
    host, phases, fractions = Silent(), [], []
    before = state_of(host)
    result = forget(
        host, wish(anchor="pear"), progress=lambda r: phases.append(r.phase) or fractions.append(r.fraction)
    )
    assert_same(before, state_of(host))
    assert list(dict.fromkeys(phases)) == ["choosing", "editing"] and fractions == sorted(fractions)
    assert result.before is result.after is None
    assert len(result.prompts) == 3 and all("banana" in p for p in result.prompts)
    assert result.report["way"] == "in one go, firmness 30" and result.report["stopped"] == ""
    assert result.delta.info.judge == {"verdict": "not judged: without the check"}
    assert (result.delta.info.anchor, result.delta.info.steps) == ("pear", 0)
    again = forget(Silent(), wish(anchor="pear"))
    shas = [save(r.delta, tmp_path / f"{i}.safetensors") for i, r in enumerate((result, again))]
    assert shas[0] == shas[1]


def test_the_delta_is_that_of_the_checked_run_whose_judge_is_content_at_once(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(Exam, "still_drawn", lambda *given: False)
    few = {"anchor": "pear", "sampling_steps": 2}
    checked = forget(TinyHost(), ForgetConfig(concept="banana", **few)).delta
    unchecked = forget(TinyHost(), wish(**few)).delta
    assert checked.factors.keys() == unchecked.factors.keys()
    for name, factor in checked.factors.items():
        assert torch.equal(factor.matrix(), unchecked.factors[name].matrix())
    assert checked.info.prompts == unchecked.info.prompts


def chosen(host, concept="banana", kind="object", forgotten=(), taken=(), **changes):
    return choose_unseen(host, wish(concept, **changes), concept, kind, WordList.load(WORDS), forgotten, taken)


def test_the_replacement_is_the_word_whose_sentence_lies_nearest():
    host, words = TinyHost(), WordList.load(WORDS)
    template = words.object_templates[0]

    def distance(word):
        one, other = (host.encode([template.replace("{an o}", f"a {w}").replace("{o}", w)]) for w in ("banana", word))
        return float((one.tokens - other.tokens).square().mean())

    # without those that bring another article, which the distance here leaves out
    nearest = min((o for o in words.all_objects if o != "banana" and o[0] not in "aeiou"), key=distance)
    choice = chosen(host)
    near = [n for n in choice.neighbours if n[0] not in "aeiou"]
    assert near[0] == nearest and choice.profile is None and choice.refused == {}
    assert choice.anchor == choice.neighbours[0] and "nothing drawn" in choice.why


def test_what_is_taken_comes_last_and_what_has_gone_never():
    first, second, third, *_ = chosen(TinyHost()).neighbours
    assert chosen(TinyHost(), taken=[first.upper()]).anchor == second
    assert chosen(TinyHost(), forgotten=[first], taken=[second]).anchor == third
    words = WordList.load(WORDS)
    others = [o for o in words.all_objects if o not in ("banana", first)]
    assert chosen(TinyHost(), forgotten=others, taken=[first]).anchor == first
    with pytest.raises(UnlearnError, match="Draw instead"):
        chosen(TinyHost(), forgotten=[*others, first])


def test_nothing_that_belongs_to_a_category_stands_in_for_it():
    words = WordList.load(WORDS)
    group = next(g for g, members in words.objects.items() if g and len(members) > 1)
    assert chosen(TinyHost(), group).anchor not in words.members(group)


def test_an_anchor_of_the_artists_and_a_style_need_no_list_of_things():
    assert chosen(TinyHost(), anchor="gizmo").anchor == "gizmo"
    words = WordList.load(WORDS)
    assert chosen(TinyHost(), words.styles[0], "style").anchor in words.styles[1:]


def test_a_stack_is_solved_as_a_whole_and_its_parents_are_written():
    host = TinyHost()
    first = forget(host, wish()).delta
    second = forget(host, wish("frog"), Stack().with_delta(first))
    assert second.report["teacher_stack"] == ("banana",) and second.delta.info.anchor != first.info.anchor
    assert [p.concept for p in second.delta.info.parents] == ["banana"]


def test_a_rank_over_the_layers_own_makes_a_file_that_can_be_read(tmp_path):
    most, more = (forget(TinyHost(), wish(anchor="pear", rank=r)).delta for r in (16, 40))
    save(more, tmp_path / "a.safetensors")
    for name, factor in load(tmp_path / "a.safetensors").factors.items():
        assert factor.rank == 16
        assert torch.allclose(factor.matrix(), most.factors[name].matrix(), atol=2e-3)


def test_a_stop_keeps_nothing():
    host = TinyHost()
    before = state_of(host)
    with pytest.raises(Cancelled, match="before anything"):
        forget(host, wish(), progress=lambda r: r.phase == "editing")
    assert_same(before, state_of(host))


@pytest.mark.parametrize("values", [{"closed_form": False}, {"null_space": 1.0}, {"closed_form": "no", "check": "no"}])
def test_training_without_the_check_is_refused(values):
    with pytest.raises(BadSetting, match="Check"):
        ForgetConfig.from_flat({"concept": "banana", "check": False, **values})


def test_a_model_that_cannot_be_edited_in_one_go_is_told_so():
    class Unordered(TinyHost):
        """Every token knows the whole sentence, as a T5's does."""

        def encode(self, prompts):
            tokens = super().encode(prompts)
            tokens.tokens[:] += tokens.tokens.mean(1, keepdim=True)
            return tokens

    host = Unordered()
    before = state_of(host)
    with pytest.raises(UnlearnError, match="switch Check on"):
        forget(host, wish(anchor="pear"))
    assert_same(before, state_of(host))


def test_settings_of_before_the_switch_are_checked_runs():
    assert ForgetConfig.from_flat({"concept": "banana"}).check is True
