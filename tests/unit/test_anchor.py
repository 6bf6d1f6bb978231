"""Which concept takes the target's place: by score distance, on models whose pictures are known, and by text alone."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.tiny import TOKENS, WORDS, TinyHost
from tests.unit.runs import Pictures, config, opened, run, stack_on
from unlearn_core import ForgetConfig, Stack, UnlearnError
from unlearn_core.host import Conditioning
from unlearn_core.method import anchor as anchor_module
from unlearn_core.method.anchor import (
    ASKED,
    Anchor,
    by_text_alone,
    choose_anchor,
    possible,
)
from unlearn_core.method.gate import share_read_as_target
from unlearn_core.method.request import Request
from unlearn_core.method.score_distance import text_distances, texts_apart
from unlearn_core.recipe import DEFAULT, OBJECT
from unlearn_core.sampling import Sampler
from unlearn_core.words.prompts import REMOVED, mapped, scenes
from unlearn_core.words.word_list import WordList

LIST = WordList.load(WORDS)


def stack_with(host, forgotten=(), taken=()):
    """A stack that has forgotten some concepts, and others by leading them to what is taken."""
    rows = [{"concept": c} for c in forgotten]
    return stack_on(host, *rows, *({"concept": f"gizmo number {i}", "anchor": a} for i, a in enumerate(taken)))


# By score distance


def chosen(colours, anchor="", forgotten=(), default=5.0, taken=(), concept="banana"):
    host = Pictures(colours, default)
    wish = ForgetConfig(concept=concept, anchor=anchor, sampling_steps=2)
    with opened(host, wish, stack_with(host, forgotten, taken)) as run:
        return choose_anchor(run)


def test_nearest_that_no_longer_draws_the_target_is_chosen():
    made = chosen({"banana": 1.0, "pear": 1.0, "apple": 0.4, "fruit": 1.0})
    assert made.name == "apple" and made.neighbours[:2] == ("pear", "apple")
    assert made.rejected == {"pear": 1.0} and "nearer ones still draw it: pear" in made.reason
    assert made.distances().shape == (OBJECT.anchor_levels,)


def test_where_no_style_is_left_it_is_said_what_to_do(tmp_path):
    words = json.loads(WORDS.read_text("utf-8"))
    host = TinyHost()
    host.words_file = str(tmp_path / "few.words.json")
    Path(host.words_file).write_text(json.dumps(words | {"styles": ["ink"]}))
    with pytest.raises(UnlearnError, match="name it under 'Draw instead'"):
        run(host, config(concept="ink", kind="style", anchor="", closed_form=True))


def test_where_every_style_still_draws_it_the_least_is_taken(monkeypatch):
    """The ninth request of a stack is not refused, as long as most pictures show something else."""
    shares = dict.fromkeys(LIST.styles, 0.3) | {LIST.styles[1]: 0.2}
    monkeypatch.setattr(anchor_module, "share_read_as_target", lambda run, probed, name, general: shares[name])
    wish = config(concept=LIST.styles[0], kind="style", anchor="")
    with opened(TinyHost(), wish) as made:
        found = choose_anchor(made)
    assert found.name == LIST.styles[1] and "20% of what was looked at" in found.reason
    assert found.name not in found.rejected and set(found.rejected.values()) == {0.3}
    shares.update(dict.fromkeys(LIST.styles, 0.6))
    with opened(TinyHost(), wish) as made, pytest.raises(UnlearnError, match="Draw instead"):
        choose_anchor(made)


def test_a_category_is_found_whatever_the_capitals():
    assert replace(LIST, objects={"pokemon": ("Pikachu",)}).category("pikachu") == "pokemon"


def test_a_category_stands_in_only_where_nothing_else_does():
    drawn_by_all = dict.fromkeys(LIST.all_objects, 1.0)
    assert chosen({"banana": 1.0, "fruit": 0.9, "pear": 0.4}).name == "pear"
    assert chosen(drawn_by_all | {"fruit": 0.4}).name == "fruit"
    nothing = chosen(drawn_by_all | {"fruit": 1.0})
    assert nothing.name == REMOVED and "fruit" in nothing.rejected


def test_earlier_targets_are_never_chosen():
    assert chosen({"banana": 1.0, "pear": 0.7, "apple": 0.4}, forgotten=("Pear",)).name == "apple"


def test_what_belongs_to_a_category_never_stands_in_for_it():
    colours = {"fruit": 1.0, "pear": 0.8, "dog": 0.3}
    made = chosen(colours, concept="fruit")
    assert made.neighbours[0] == "pear" and made.name == "dog"
    assert chosen(colours | {"banana": 1.0}).name == "pear"
    assert chosen(colours | {"banana": 1.0}, forgotten=("FRUIT",)).name == "dog"


def test_what_already_stands_in_for_something_comes_last():
    colours = {"banana": 1.0, "pear": 0.7, "apple": 0.4}
    assert chosen(colours, taken=("Pear",)).name == "apple"
    assert chosen(colours, taken=(*LIST.all_objects, "fruit")).name == "pear"


def test_the_artists_own_anchor_is_taken_as_it_is():
    made = chosen({"banana": 1.0, "pear": 0.7, "kiwi": 0.2}, anchor="kiwi")
    assert made.name == "kiwi" and made.reason == "given by the artist" and made.distances is not None


def test_nothing_that_passes_is_an_error_that_names_the_way_out():
    # everything draws exactly the target
    with pytest.raises(UnlearnError, match="Draw instead"):
        chosen({}, default=1.0)


@pytest.mark.parametrize(
    ("hits", "general", "share"),
    [
        ((), False, 0),
        ((12,), False, 1 / 16),
        ((3,), False, 1 / 16),
        ((3, 6, 12), False, 2 / 8),
        ((), True, 0),
        ((12,), True, 1 / 32),
        ((3,), True, 1 / 8),
    ],
)
def test_the_gate_stops_drawing_where_it_is_certain(monkeypatch, hits, general, share):
    """hits: numbers of the pictures that read as the target; whatever the part, a picture is the same."""
    made = []

    def reading(host, latents, *_):
        made.append(latents)
        return torch.tensor([int(i not in hits) for i in range(len(latents))])

    monkeypatch.setattr("unlearn_core.method.gate.read_as", reading)
    host, asked = TinyHost(), scenes(LIST, "banana", "object", 16, 0)
    config = ForgetConfig(concept="banana", seed=2)
    recipes = {kind: replace(recipe, group=0) for kind, recipe in DEFAULT.items()}
    with opened(host, config, recipes=recipes) as run:
        assert share_read_as_target(run, asked, "pear", general) == pytest.approx(share)
    prompts = host.encode([mapped(s, "pear", "object", LIST).prompt for s in asked] * 2)
    whole = Sampler(host, OBJECT.anchor_steps, config.guidance).draw(prompts, config.seed + 3)
    assert torch.allclose(made[-1], whole[: len(made[-1])], atol=1e-5)


# What the model knows


class FewWords(Pictures):
    """Has no list of its own and knows the words that have a colour; all others are spelled out and draw one thing."""

    words_file = None

    def __init__(self, **colours):
        super().__init__(colours)


@pytest.mark.parametrize("group", [0, OBJECT.group])
@pytest.mark.parametrize("colour, share", [(0.9, 1.0), (0.6, 1.0), (0.4, 0.0), (-0.5, 0.0)])
def test_a_picture_that_the_targets_name_fits_better_than_none_is_the_target(colour, share, group):
    """The target is drawn as 1, what nobody names as 0; each picture reads as what was asked for."""
    recipes = {kind: replace(recipe, group=group) for kind, recipe in DEFAULT.items()}
    wish = ForgetConfig(concept="guitar", sampling_steps=2, guidance=1.0)
    for host, found in ((FewWords(guitar=1.0, ukulele=colour), share), (Pictures({"guitar": 1, "ukulele": colour}), 0)):
        with opened(host, wish, recipes=recipes) as run:
            asked = scenes(run.request.words, "guitar", "object", 4, 0)
            assert share_read_as_target(run, asked, "ukulele", False) == found
            assert share_read_as_target(run, asked, REMOVED, True) == 0


@pytest.fixture
def spelled(monkeypatch):
    """Words that have no colour are spelled out and not told from nonsense; the fixture counts who was asked for."""
    asked = []

    def apart(host, names, *_):
        asked.append(tuple(names))
        return dict.fromkeys(names, 1.0)

    monkeypatch.setattr("unlearn_core.method.anchor.spelled_out", lambda host, word: word not in host.colours)
    monkeypatch.setattr("unlearn_core.method.anchor.told_apart", apart)
    return asked


def test_what_the_model_does_not_know_never_stands_in(spelled):
    """Words that it does not know lie nearest, as they all draw the same."""
    host = FewWords(banana=0.1, guitar=-1.0, car=0.9)
    with opened(host, ForgetConfig(concept="banana", sampling_steps=2)) as run:
        made = choose_anchor(run)
    assert made.name in ("guitar", "car") and set(made.neighbours) == {"guitar", "car"}
    assert [len(names) for names in spelled] == [ASKED]


def test_what_is_spelled_out_but_known_may_stand_in(spelled, monkeypatch):
    monkeypatch.setattr(
        "unlearn_core.method.anchor.told_apart", lambda host, names, *_: {n: 2.0 * (n == "drum") for n in names}
    )
    host = FewWords(banana=0.1, car=0.9)
    monkeypatch.setattr("unlearn_core.method.anchor.ASKED", 1000)
    with opened(host, ForgetConfig(concept="banana", sampling_steps=2)) as run:
        assert set(choose_anchor(run).neighbours) == {"drum", "car"}


def test_the_words_of_its_own_list_are_not_asked_for(spelled):
    assert chosen({"banana": 1.0, "pear": 0.7}).name == "pear" and spelled == []


@pytest.mark.parametrize("colours", [{"ink": 1.0}, {"ink": 1.0, "drawing": 0.5}])
def test_a_style_needs_no_style_that_is_known(spelled, colours):
    """Of the general list's styles the model knows none, or only one that may not stand in."""
    host = FewWords(**colours)
    with opened(host, ForgetConfig(concept="ink style", sampling_steps=2)) as run:
        made = choose_anchor(run)
    assert made.name and "ink" not in made.name


def test_a_quick_run_skips_what_is_spelled_out(spelled):
    host = FewWords(banana=0.1, guitar=-1.0)
    with opened(host, ForgetConfig(concept="banana", quality="quick")) as run:
        by_text_alone(run)
    assert spelled == [], "asking would take longer than the run"
    assert by_text_alone_of(host, "drum", "guitar", "pear") == "guitar"
    assert by_text_alone_of(host, "drum", "pear") == "drum", "where there is nothing else"


def by_text_alone_of(host, *order):
    """The quick choice where texts lie in this order."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unlearn_core.method.anchor.by_text", lambda *_: order)
        with opened(host, ForgetConfig(concept="banana", quality="quick")) as run:
            return by_text_alone(run).name


@pytest.mark.parametrize("quality", ["quick", "normal"])
@pytest.mark.parametrize("concept", ["ink style", "ink", "style of ink"])
def test_an_anchor_of_a_style_never_shares_its_noun(concept, quality):
    """The general list has an "ink drawing"."""
    host = TinyHost()
    host.words_file = None
    request = Request.read(host, ForgetConfig(concept=concept, kind="style", quality=quality), Stack())
    assert "ink drawing" in request.words.styles
    assert possible(("ink drawing", "watercolor"), request) == ["watercolor"]


# By text alone


def by_text(concept="banana", stack=None, **changes) -> Anchor:
    wish = ForgetConfig(concept=concept, quality="quick", **changes)
    with opened(TinyHost(), wish, stack or Stack()) as run:
        return by_text_alone(run)


def test_the_word_whose_text_lies_nearest_is_chosen():
    host, template = TinyHost(), LIST.object_templates[0]

    def distance(word):
        one, other = (host.encode([template.replace("{an o}", f"a {w}").replace("{o}", w)]) for w in ("banana", word))
        return float((one.tokens - other.tokens).square().mean())

    # without those that bring another article, which the distance here leaves out
    nearest = min((o for o in LIST.all_objects if o != "banana" and o[0] not in "aeiou"), key=distance)
    made = by_text()
    near = [n for n in made.neighbours if n[0] not in "aeiou"]
    assert near[0] == nearest and made.distances is None and made.rejected == {}
    assert made.name == made.neighbours[0] and "no picture was looked at" in made.reason


class Ragged(TinyHost):
    """Gives a prompt no more tokens than it has words, as T5 does in some hosts."""

    def encode(self, prompts):
        rows = super().encode(prompts)
        counts = torch.tensor([min(len(p.split()), TOKENS) for p in prompts])
        tokens = rows.tokens * (torch.arange(TOKENS) < counts[:, None])[..., None]
        return Conditioning(tokens[:, : counts.max()], {}, counts)


@pytest.mark.parametrize("kind, exact", [(TinyHost, True), (Ragged, False)])
def test_texts_are_compared_some_at_a_time(kind, exact, monkeypatch):
    host, read = kind(), []
    prompts = [f"a photo of {'very ' * (i % 4)}thing {i}" for i in range(11)]
    whole = host.encode(prompts)
    wanted, encode = text_distances(whole[:1], whole[1:]), host.encode
    monkeypatch.setattr(host, "encode", lambda asked: read.append(asked) or encode(asked), raising=False)
    monkeypatch.setattr("unlearn_core.method.score_distance.TEXTS_AT_ONCE", 4)
    found = texts_apart(host, prompts)
    assert read == [prompts[:4], prompts[4:8], prompts[8:]]
    assert torch.equal(found, wanted) if exact else torch.allclose(found, wanted, rtol=1e-6)
    monkeypatch.setattr("unlearn_core.method.score_distance.TEXTS_AT_ONCE", 64)
    assert torch.equal(texts_apart(host, prompts), wanted)


def test_the_sieve_reads_a_long_list_in_parts(monkeypatch):
    largest, encode = [], TinyHost.encode
    monkeypatch.setattr(TinyHost, "encode", lambda self, asked: largest.append(len(asked)) or encode(self, asked))
    whole = by_text()
    rivals = max(largest)
    largest.clear()
    monkeypatch.setattr("unlearn_core.method.score_distance.TEXTS_AT_ONCE", 8)
    assert rivals > 16 and by_text().neighbours == whole.neighbours
    assert rivals not in largest


def test_what_is_taken_comes_last_and_what_has_gone_never():
    host = TinyHost()
    first, second, third, *_ = by_text().neighbours
    assert by_text(stack=stack_with(host, taken=[first.upper()])).name == second
    assert by_text(stack=stack_with(host, [first], [second])).name == third
    others = [o for o in LIST.all_objects if o not in ("banana", first)]
    assert by_text(stack=stack_with(host, others, [first])).name == first
    with pytest.raises(UnlearnError, match="Draw instead"):
        by_text(stack=stack_with(host, [*others, first]))


def test_nothing_that_belongs_to_a_category_stands_in_for_it_by_text():
    group = next(g for g, members in LIST.objects.items() if g and len(members) > 1)
    assert by_text(group).name not in LIST.members(group)


def test_an_anchor_of_the_artists_and_a_style_need_no_list_of_things():
    assert by_text(anchor="gizmo").name == "gizmo"
    assert by_text(LIST.styles[0]).name in LIST.styles[1:]


@pytest.mark.parametrize("concept", ["a banana", "the bananas", "banana.", "(banana:1.3)"])
def test_the_nearest_word_is_never_the_target_itself(concept):
    made = by_text(concept)
    assert made.name in LIST.all_objects and made.name != "banana"


@pytest.mark.parametrize(
    "concept, forgotten, nearest, left",
    [
        ("a banana", (), ["banana", "pear"], ["pear"]),
        ("hot dog", (), ["dog", "cat"], ["cat"]),
        ("cat", ("a banana", "hot dog"), ["banana", "dog", "pear"], ["pear"]),
        ("animals", (), ["cat", "pear"], ["pear"]),
    ],
)
def test_what_may_stand_in_shares_no_word_and_is_no_earlier_target(concept, forgotten, nearest, left):
    host = TinyHost()
    host.words_file = None
    request = Request.read(host, ForgetConfig(concept=concept), stack_with(host, forgotten))
    assert possible(nearest, request) == left
