"""What no list names is preserved: the sample of the vocabulary, neighbours that the tool finds, and what is kept."""

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.tiny import WORDS, TinyHost
from tests.unit.runs import opened, stack_on
from unlearn_core import ForgetConfig, Stack, forget
from unlearn_core.errors import BadSetting
from unlearn_core.method import anchor
from unlearn_core.method.closed_form import Edit, moments
from unlearn_core.method.open_words import OpenWords, sampled
from unlearn_core.method.preserved import PreservedPrompts
from unlearn_core.method.prompt_pairs import PromptPairs
from unlearn_core.method.request import Request
from unlearn_core.method.text_reader import TextReader, Tokens
from unlearn_core.method.token_moments import moment_of
from unlearn_core.recipe import OBJECT, SMALL
from unlearn_core.saved_work import SavedWork
from unlearn_core.words.prompts import REMOVED
from unlearn_core.words.vocabulary import Term, Vocabulary
from unlearn_core.words.word_list import WordList

WIDTH, FAMILIES, MEMBERS = 128, ("fruit", "beast", "tool", "place"), 12
GENERAL = WordList.load(None)
RECIPE = replace(OBJECT, open_words=24, near_candidates=30, near_words=8)


class Space(TextReader):
    """Each word is one token: a direction of its family, and one of its own; counts the prompts that are read."""

    pooled, paths = False, ("here",)

    def __init__(self, seed=0):
        self.host, self.seed, self.asked = self, seed, 0
        self.families = torch.linalg.qr(self.random("families", WIDTH * WIDTH).view(WIDTH, WIDTH))[0]

    def random(self, text, size=WIDTH):
        return torch.randn(
            size, generator=torch.Generator().manual_seed(random.Random(f"{self.seed}{text}").getrandbits(40))
        )

    def token(self, word):
        own = self.random(word) * 0.08
        family = next((i for i, name in enumerate(FAMILIES) if word.startswith(name)), None)
        return own + (self.families[family] if family is not None else 0.8 * self.families[9])

    def read(self, prompts):
        self.asked += len(prompts)
        rows = [torch.stack([self.token(w) for w in ("START", *p.split(), "END")]) for p in prompts]
        return Tokens(torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), tuple(map(len, rows)))

    def token_ids(self, prompt):
        return [[random.Random(w).getrandbits(24) for w in ("START", *prompt.split(), "END")]]


def words(skipped=()):
    """fruita, fruitb, ... with forms, a synonym and a compound of the first fruit."""
    made = [Term(f + chr(97 + i), "thing", f) for i in range(MEMBERS) for f in FAMILIES]
    own = Term("fruita", "thing", "fruit", 7)
    more = [
        Term("fruitas", "thing", "fruit"),
        Term("beastz", "thing", "fruit", 7),
        Term("fruita pie", "thing", "fruit"),
    ]
    return Vocabulary(tuple(t for t in (own, *more, *made[1:]) if t.text not in skipped))


def of(vocabulary, moving=("fruita",), keep=(), recipe=RECIPE):
    return OpenWords(vocabulary, vocabulary.without(moving), moving, False, keep, GENERAL, recipe)


def near_of(opened, space):
    return [t.text for t in opened.neighbours(space, opened.sample(space))]


def test_the_neighbours_are_the_targets_family_and_none_of_its_forms():
    opened = of(words())
    near = near_of(opened, Space())
    assert len(near) == 8 and all(n.startswith("fruit") for n in near)
    assert not {"fruita", "fruitas", "beastz", "fruita pie"} & set(near)


def test_the_neighbours_of_a_word_that_nobody_knows_are_found_by_its_text():
    opened = of(words(), ("fruitqq",))
    near = near_of(opened, Space())
    assert len(near) == 8 and all(n.startswith("fruit") for n in near)


def test_what_is_spelled_and_read_like_the_target_is_a_form_of_it():
    class Twins(Space):
        def token(self, word):
            return super().token("fruita" if word in ("fruitada", "tooly") else word)

    vocabulary = words().plus([Term("fruitada", "thing", "fruit"), Term("tooly", "thing", "fruit")])
    opened = of(vocabulary)
    near = near_of(opened, Twins())
    # the same by its text, but spelled differently: nearest, and no form
    assert "fruitada" not in near and near[0] == "tooly"


def test_nothing_that_goes_or_has_gone_is_among_them_nor_in_the_sample():
    vocabulary = words()
    opened = of(vocabulary, ("fruita", "fruitb", "toola"), recipe=replace(RECIPE, open_words=len(vocabulary.terms)))
    space = Space()
    sample = opened.sample(space)
    near = {t.text for t in opened.neighbours(space, sample)}
    assert not {"fruitb", "toola"} & near
    stay = [t for t in sample.terms if opened.allowed.find(t.text)]
    assert len(stay) == len(vocabulary.terms) - 6
    exact = moment_of(space, opened.in_both(stay))
    assert torch.allclose(opened.rest(space, sample).value, exact.value, atol=1e-5)


def test_unlisted_neighbours_move_less_where_the_target_moves_as_much():
    """Of the list "toola" and others are known; half of the fruits are in the vocabulary, the other half in nothing."""
    unlisted = [f"fruit{chr(97 + i)}" for i in range(1, MEMBERS, 2)]
    space, opened = Space(), of(words(unlisted))
    listed = moment_of(space, [f"a photo of a {w}" for w in ("toolb", "toolc", "placeb", "beastb")])
    pairs = [(f"{before} fruita", f"{before} toola") for before in ("a photo of a", "the", "a picture of a", "my")]
    target = moments(space, pairs, [0.0] * len(pairs))
    matrix = torch.randn(30, WIDTH, generator=torch.Generator().manual_seed(1)).double()
    way = matrix @ (space.token("toola") - space.token("fruita")).double()
    nouns = torch.stack([space.token(w) for w in unlisted]).double()

    def moved(preserved):
        ((_, down, up),) = Edit(target, None, preserved, OBJECT).factors({"m": matrix}, {}, 8, (30.0, 0.0))
        change = (up @ down).double()
        reached = float((change @ space.token("fruita").double()) @ way / way.norm() ** 2)
        return float((nouns @ change.T).norm(dim=1).mean() / way.norm()) / reached

    alone, both = moved(listed.value), moved(opened.preserved(space, listed).moment.value)
    assert alone > 0.3 and both < 0.6 * alone


def test_the_artists_own_words_count_as_neighbours():
    space, listed = Space(), moment_of(Space(), ["a photo of a toolb"])
    with_keep, without = (of(words(), keep=k).preserved(space, listed).moment.value for k in (("placez",), ()))
    kept = space.token("placez").double()
    assert kept @ with_keep @ kept > 1.5 * (kept @ without @ kept)


def test_neighbours_of_earlier_targets_are_held_as_well():
    """Not what moves now, nor what this vocabulary does not know."""
    space, listed, earlier = Space(), moment_of(Space(), ["a photo of a toolb"]), ("placel", "fruita pie", "unheard of")
    opened = of(words(), recipe=replace(RECIPE, near_words=4))
    alone, both = opened.preserved(space, listed), opened.preserved(space, listed, earlier=earlier)
    assert alone.near == both.near == tuple(near_of(opened, space))
    known = opened.beside(listed, space, opened.sample(space), [*map(opened.term, both.near), opened.term("placel")])
    assert torch.allclose(both.moment.value, known.value) and not torch.equal(both.moment.value, alone.moment.value)
    few = of(words(), recipe=replace(RECIPE, near_words=4, earlier_near=0)).preserved(space, listed, earlier=earlier)
    assert torch.equal(few.moment.value, alone.moment.value)


def test_the_sample_is_read_once_for_each_text_encoder(tmp_path):
    first = Space()
    made = of(words()).sample(first, SavedWork(tmp_path))
    again = Space()
    kept = of(words()).sample(again, SavedWork(tmp_path))
    assert first.asked > 24 and again.asked == 3  # the probe
    assert torch.equal(made.moment.value, kept.moment.value) and torch.equal(made.means, kept.means)
    other = Space(seed=1)
    assert not torch.equal(of(words()).sample(other, SavedWork(tmp_path)).means, kept.means) and other.asked > 24
    grown = Space()
    of(words().plus([Term("zog", "thing", "tool")])).sample(grown, SavedWork(tmp_path))
    assert grown.asked > 24


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_a_file_that_was_damaged_or_put_there_is_passed_over(tmp_path, damage):
    made = of(words()).sample(Space(), SavedWork(tmp_path))
    (file,) = tmp_path.rglob("*.part")
    data = bytearray(file.read_bytes())
    data[-9] ^= 1
    file.write_bytes(bytes(data) if damage is None else damage)
    again = Space()
    assert torch.equal(of(words()).sample(again, SavedWork(tmp_path)).means, made.means) and again.asked > 24


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    assert len(of(words()).sample(Space(), SavedWork(tmp_path / "file" / "x")).means) == 24


def test_the_sample_is_always_the_same_and_from_all_over():
    terms = sampled(words(), 24)
    assert terms == sampled(words(), 24) and len(set(terms)) == 24
    assert {t.category for t in terms} == set(FAMILIES)


# On a host


class Open(TinyHost):
    """Brings no word list."""

    words_file = None


def request(concept, **changes):
    return Request.read(Open(), ForgetConfig(concept=concept, **changes), Stack(), recipes=SMALL)


def test_a_delta_tells_what_lies_around_it_and_later_ones_hold_it():
    host, wish = Open(), ForgetConfig(concept="teapot", anchor="dog", quality="quick", force=True)
    first = forget(host, wish, recipes=SMALL).delta
    assert len(first.info.near) == SMALL["object"].near_words and "teapot" not in first.info.near
    stack = Stack().with_delta(first)
    later = replace(wish, concept="lamp")
    assert Request.read(host, later, stack, recipes=SMALL).near_earlier == ()
    many = {kind: replace(recipe, earlier_shared=0) for kind, recipe in SMALL.items()}
    assert Request.read(host, later, stack, recipes=many).near_earlier == first.info.near


def test_a_checkpoint_with_its_own_list_has_no_vocabulary(monkeypatch):
    assert Request.read(TinyHost(), ForgetConfig(concept="banana"), Stack()).vocabulary is None
    monkeypatch.setattr(PreservedPrompts, "moment", lambda self, reader, pulse: "of the lists")
    with opened(TinyHost(), ForgetConfig(concept="banana", quality="quick")) as run:
        assert run.preserved(run.readers[0]) == "of the lists"


@pytest.mark.parametrize(
    "concept, kind", [("Claude Monet", "style"), ("steampunk", "style"), ("Pikachu", "object"), ("teapot", "object")]
)
def test_the_kind_is_what_the_vocabulary_says(concept, kind):
    assert request(concept).kind == kind
    assert request(concept, kind="object").kind == "object"


def test_candidates_are_of_the_targets_own_kind_first():
    made = Request.read(Open(), ForgetConfig(concept="Pikachu"), Stack())
    known = {t.text: t.kind for t in made.vocabulary.terms}
    assert len(made.relatives) == OBJECT.near_anchors
    assert {known[name] for name in made.relatives} == {"character"} and made.rivals()[:40] == made.relatives
    assert not {"auto", "automobile", "car", "police car"} & set(request("car").rivals())
    assert request("asdfgh").relatives == ()


def test_what_draws_the_target_by_another_word_is_no_candidate():
    assert not {"insect", "ant"} & {*request("ant").rivals()} and "bee" in request("ant").rivals()
    birds = request("bird").rivals()
    assert len(birds) > 50 and not {"sparrow", "owl", "duck", "penguin"} & {*birds}
    later = Request.read(Open(), ForgetConfig(concept="bee"), stack_on(Open(), {"concept": "ant"}))
    assert "insect" not in later.rivals()


@pytest.mark.parametrize("distance, name", [(0.99, "violin"), (1.01, "ukulele")])
def test_another_word_for_the_target_is_no_anchor(distance, name, monkeypatch):
    """Nearer than no word at all: every gate is passed, as each picture reads as what was asked for."""
    distances = {"ukulele": distance, "violin": 2.0, REMOVED: 1.0}

    def measured(run, probed, latents, names):
        return torch.tensor([distances.get(n, 5.0) for n in names]), lambda name: lambda: torch.ones(1)

    monkeypatch.setattr(anchor, "measured_distances", measured)
    monkeypatch.setattr(anchor, "sieved", lambda run: ("ukulele", "violin"))
    monkeypatch.setattr(anchor, "share_read_as_target", lambda *_: 0.0)
    with opened(Open(), ForgetConfig(concept="guitar")) as run:
        assert anchor.choose_anchor(run).name == name
    with opened(Open(), ForgetConfig(concept="guitar", anchor="ukulele")) as run:
        own = anchor.choose_anchor(run)
        assert own.name == "ukulele" and ("hardly tells it from 'guitar'" in own.reason) == (name == "violin")


def test_beside_a_list_that_is_not_complete_the_vocabulary_is_preserved(tmp_path):
    host, own = TinyHost(), json.loads(Path(WORDS).read_text())
    host.words_file = str(tmp_path / "own.words.json")
    for complete, known in ((False, 20_000), (True, 0)):
        Path(host.words_file).write_text(json.dumps(own | {"complete": complete}))
        made = Request.read(host, ForgetConfig(concept="banana"), Stack())
        assert len(made.vocabulary.terms if made.vocabulary else ()) == known
        # what the checkpoint's own list names is sure to be known to it
        assert made.relatives == () and set(made.rivals()) == {*WordList.load(WORDS).all_objects} - {"banana"}
        assert made.recipe.tries == ((OBJECT.tries[0], *OBJECT.open_tries) if known else OBJECT.tries)
        assert made.recipe.earlier_scale == (30.0 if known else 0.0)
    quick = Request.read(Open(), ForgetConfig(concept="banana", quality="quick"), Stack())
    assert quick.recipe.tries == OBJECT.open_tries, "nobody would see that the first one is too little"
    Path(host.words_file).write_text(json.dumps(own | {"complete": "no"}))
    with pytest.raises(BadSetting, match="'complete' has to be true or false"):
        Request.read(host, ForgetConfig(concept="banana"), Stack())


def test_a_plural_goes_with_its_noun_and_its_pairs_are_known_later():
    made = request("teapot")
    pairs = PromptPairs.make(made, "cherry")
    assert made.forms == ("teapots",) and len(pairs.target) == len(made.targets) + SMALL["object"].form_prompts
    assert ("a photo of teapots", "a photo of cherries") in pairs.target
    assert len(PromptPairs.make(made, "").target) == len(made.targets)
    later = Request.read(
        Open(), ForgetConfig(concept="cherry"), stack_on(Open(), {"prompts": pairs.target, "concept": "teapot"})
    )
    inherited = dict(PromptPairs.make(later, "plum").inherited)
    assert inherited["a photo of teapots"] == "a photo of plums" and len(inherited) == len(pairs.target)
    assert request("Pikachu").forms == () and request("watercolor", kind="style").forms == ()


def test_a_run_preserves_the_vocabulary_and_keeps_what_it_read(tmp_path):
    host = Open()
    host.cache_folder = tmp_path / "words"
    told = []
    wish = ForgetConfig(concept="teapot", anchor="cup", quality="quick", force=True)
    first = forget(host, wish, recipes=SMALL, progress=lambda r: told.append(r.message) and None)
    again = forget(host, wish, recipes=SMALL)
    assert any("vocabulary" in message for message in told) and list((tmp_path / "words").rglob("*.part"))
    same = (torch.equal(f.up, again.delta.factors[n].up) for n, f in first.delta.factors.items())
    assert first.delta.factors and all(same)
