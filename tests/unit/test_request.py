"""What is asked for, read whole before any work: refusals, kinds, layers and the prompts of a target."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tiny import WORDS, TinyHost
from tests.unit.runs import LAYER, config, stack_on
from unlearn_core import BadDelta, BadSetting, Delta, ForgetConfig, Stack, UnlearnError, forget
from unlearn_core.delta.format import Factor
from unlearn_core.method.forget import summary
from unlearn_core.method.request import Request, asked_for, at_own_guidance
from unlearn_core.recipe import DEFAULT, OBJECT, SMALL, STYLE, thorough
from unlearn_core.words.prompts import of_unlisted
from unlearn_core.words.word_list import WordList


class Idle(TinyHost):
    """Does nothing: whatever is asked of the networks is an error."""

    def encode(self, prompts):
        pytest.fail("a prompt was encoded")

    def denoise(self, x, sigma, conditioning):
        pytest.fail("the network was asked")

    def session(self, stack):
        pytest.fail("a session was opened")


def wrong(**changes):
    """A stack for the tiny host that says something wrong of itself."""
    return stack_on(TinyHost(), {"concept": "frog", **changes})


def with_layer(name, scale=1.0):
    """A stack whose delta changes this layer."""
    (entry,) = wrong()
    factor = entry.delta.factors[LAYER]
    return Stack().with_delta(Delta({name: Factor(factor.down, factor.up * scale, 1.0)}, entry.delta.info))


REFUSED = {
    "another architecture": (lambda: wrong(architecture="sd1"), {}, BadDelta, "type sd1, but the loaded one is tiny"),
    "another base": (lambda: wrong(base_fingerprint="f" * 16), {}, BadDelta, "made for the base ffff"),
    "a layer that is not there": (lambda: with_layer("diffusion_model.x"), {}, BadDelta, "No layer of 'frog'"),
    "no effect": (lambda: with_layer(LAYER, 0.0), {}, BadDelta, "change nothing"),
    "forgotten before": (lambda: wrong(concept="Banana"), {}, BadSetting, "already forgotten 'banana'"),
    "a style forgotten before": (
        lambda: wrong(concept="Monet"),
        {"concept": "style of monet", "anchor": "ink"},
        BadSetting,
        "already forgotten 'monet'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_done_is_refused_before_any_work(case):
    stack, changes, error, words = REFUSED[case]
    with pytest.raises(error, match=words):
        forget(Idle(), config(**changes), stack(), recipes=SMALL)


def test_a_broken_word_list_is_refused_before_any_work(tmp_path):
    host = Idle()
    host.words_file = str(tmp_path / "x.words.json")
    with pytest.raises(BadSetting, match=r"x\.words\.json"):
        forget(host, config(), recipes=SMALL)


def test_training_without_peft_is_refused_before_any_work(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UnlearnError, match="pip install"):
        forget(Idle(), config(), recipes=SMALL)
    assert Request.read(Idle(), config(closed_form=True), Stack())  # the closed form needs none


@pytest.mark.parametrize(
    "wish, kind, concept",
    [
        ({"concept": "a banana"}, "object", "banana"),
        ({"concept": "Bananas"}, "object", "banana"),
        ({"concept": "Ink"}, "style", "ink"),
        ({"concept": "ink"}, "style", "ink"),
        ({"concept": "style of Monet"}, "style", "Monet"),
        ({"concept": "Monet style"}, "style", "Monet"),
        ({"concept": "banana", "kind": "style"}, "style", "banana"),
        ({"concept": "ink", "kind": "object"}, "object", "ink"),
    ],
)
def test_kind_and_words_of_a_concept(wish, kind, concept):
    assert asked_for(ForgetConfig(**wish), [WordList.load(WORDS)], Stack()) == (kind, concept)


@pytest.mark.parametrize("layers, parts", [("kv", "kv"), ("cross", "kvqo"), ("attention", "kvqo")])
def test_layers_are_those_of_the_setting(layers, parts):
    read = Request.read(Idle(), config(layers=layers), Stack())
    assert len(read.trained) == 2 * len(parts)
    assert all(f"attn2.to_{path.split('to_')[1][0]}" in path for path in read.trained)
    assert all(name == "diffusion_model." + path for path, name in read.layers.items())


def test_of_several_names_of_a_layer_the_first_is_written():
    host = Idle()
    host.layers = lambda: {"first": "blocks.0.attn2.to_k", "second": "blocks.0.attn2.to_k"}
    assert Request.read(host, config(), Stack()).layers == {"blocks.0.attn2.to_k": "first"}


def test_what_is_learned_and_what_the_check_asks_are_different_prompts():
    host = Idle()
    host.words_file = None
    for recipes, learned, held in ((DEFAULT, OBJECT.target_prompts, OBJECT.held_out_prompts), (SMALL, 5, 5)):
        request = Request.read(host, config(), Stack(), recipes=recipes)
        assert len(request.targets) == learned and len(request.held_out) == held
        assert not set(request.targets) & set(request.held_out)
        assert all("banana" in s.prompt for s in (*request.targets, *request.held_out))
    other = Request.read(host, config(seed=1), Stack(), recipes=SMALL)
    assert other.targets != request.targets


def test_prompts_do_not_name_what_has_gone():
    request = Request.read(Idle(), config(), wrong(concept="ink"))
    assert not any(s.style == "ink" for s in request.targets) and "ink" not in request.rest.styles
    assert "banana" not in request.rest.all_objects and "banana" in request.words.all_objects


def test_the_recipe_is_that_of_the_kind_and_the_quality():
    def recipe(**changes):
        return Request.read(Idle(), config(**changes), Stack()).recipe

    assert recipe() == OBJECT and recipe(concept="ink", anchor="flat") == STYLE
    assert recipe(quality="thorough") == thorough(OBJECT) != OBJECT


def test_the_hosts_own_recipes_are_taken_where_none_are_given(monkeypatch):
    monkeypatch.setitem(DEFAULT, "object", SMALL["object"])
    assert Request.read(Idle(), config(), Stack()).recipe == SMALL["object"]


def test_a_model_without_working_guidance_is_looked_at_as_it_is_drawn():
    host, asked = TinyHost(), config()
    assert at_own_guidance(asked, host) is asked
    host.guidance = None
    assert at_own_guidance(asked, host).guidance == 3.0
    host.guidance = 1.0
    assert at_own_guidance(asked, host).guidance == 1.0
    assert at_own_guidance(config(guidance=4.5), host).guidance == 4.5, "what the artist has set counts"
    assert Request.read(host, asked, Stack()).config.guidance == 1.0
    report = forget(host, config(anchor="kiwi"), recipes=SMALL).report
    assert report["guidance"] == 1.0
    assert ("Guidance of the check", "1") in summary(report)


def test_a_list_with_too_few_prompts_is_refused_before_work(tmp_path):
    words = json.loads(WORDS.read_text("utf-8")) | {"styles": [], "suffixes": [""]}
    words |= {name: words[name][:1] for name in ("templates", "object_templates", "style_templates")}
    host = TinyHost()
    host.words_file = str(tmp_path / "few.words.json")
    Path(host.words_file).write_text(json.dumps(words))
    with pytest.raises(BadSetting, match="too few prompts"):
        Request.read(host, ForgetConfig(concept="banana"), Stack())


class Entry(Idle):
    """A host through whose one layer all text enters."""

    def layers(self):
        return {"diffusion_model.txt_in": "txt_in"}


def test_where_all_text_enters_through_layers_of_its_own_a_style_is_led_further():
    found = {host: Request.read(host(), ForgetConfig(concept="ink"), Stack()).recipes for host in (Idle, Entry)}
    entry = replace(OBJECT, least_rank=OBJECT.entry_rank, earlier_overshoot=OBJECT.entry_earlier_overshoot)
    assert found[Idle] == DEFAULT and found[Entry]["object"] == entry
    assert found[Entry]["style"].overshoot == STYLE.entry_overshoot > STYLE.overshoot
    ends = [max(r.overshoot + more for _, more in r.open_tries) for r in (STYLE, found[Entry]["style"])]
    assert ends[1] == pytest.approx(ends[0]), "what is tried beside a vocabulary ends as far"


def test_styles_are_held_on_unlisted_things_on_a_stack_and_where_a_style_goes_from_these():
    def holds(host, concept, stack=None):
        return Request.read(host(), ForgetConfig(concept=concept), stack or Stack()).holds_unlisted

    below = stack_on(TinyHost(), {"concept": "frog", "anchor": "cat"})
    assert not holds(TinyHost, "banana") and not holds(TinyHost, "ink"), "a UNet's first delta is what it was"
    assert holds(TinyHost, "banana", below) and holds(TinyHost, "ink", below)
    assert holds(Entry, "ink") and not holds(Entry, "banana")


def test_there_the_rank_is_larger_unless_the_artist_has_asked_for_another():
    def rank(host, **asked):
        return Request.read(host(), ForgetConfig(concept="banana", **asked), Stack()).rank

    assert (rank(Idle), rank(Entry), OBJECT.entry_rank) == (8, 32, 32)
    assert (rank(Idle, rank=64), rank(Entry, rank=64), rank(Entry, rank=4)) == (64, 64, 4)


def test_a_style_goes_from_things_too_that_only_the_general_list_names():
    host = Entry()
    own, general = WordList.load(host.words_file), WordList.load(None)
    count = STYLE.entry_unlisted
    request = Request.read(host, ForgetConfig(concept="ink"), Stack())
    unlisted = [s for s in request.targets if s.obj and s.obj not in own.all_objects]
    assert len(unlisted) == count > 0 and {s.obj for s in unlisted} <= {*general.all_objects}
    assert all("ink" in s.prompt and s.template in own.templates for s in unlisted)
    assert all(s.obj in ("", *own.all_objects) for s in request.held_out), "the check asks for what the list names"
    thing = Request.read(host, ForgetConfig(concept="banana"), Stack())
    assert all(s.obj == "banana" for s in thing.targets)
    assert of_unlisted(general, general, "ink", count, 0) == () == of_unlisted(own, general, "ink", 0, 0)
    unet = Request.read(TinyHost(), ForgetConfig(concept="ink"), Stack())
    assert unet.targets == tuple(s for s in request.targets if s not in unlisted), "a UNet's prompts are what they were"
    tiny, below = TinyHost(), stack_on(TinyHost(), {"concept": "frog", "anchor": "cat"})
    stacked = Request.read(tiny, ForgetConfig(concept="ink"), below).targets
    assert len([s for s in stacked if s.obj and s.obj not in own.all_objects]) == STYLE.stacked_unlisted > 0
    assert all("frog" not in s.prompt for s in stacked)
    later = Request.read(host, ForgetConfig(concept="ink", going=(unlisted[0].obj,)), Stack())
    assert unlisted[0].obj not in {s.obj for s in later.targets}, "what goes as well is no scene"
