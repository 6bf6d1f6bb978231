"""The closed-form edit: hand-computable cases, what the algebra promises on a stack, and the run that needs no step."""

from dataclasses import replace

import pytest
import torch

from tests.tiny import TinyHost
from tests.unit.runs import assert_same, config, opened, run, stack_on, state_of
from unlearn_core import Cancelled, Stack, save
from unlearn_core.evaluate.evaluator import Evaluator
from unlearn_core.method.closed_form import Edit, moments, truncated
from unlearn_core.method.counterparts import counterparts, cut
from unlearn_core.method.prompt_pairs import PromptPairs
from unlearn_core.method.text_layers import reads_text
from unlearn_core.method.text_reader import TextReader
from unlearn_core.method.token_moments import moment_of, second_moment
from unlearn_core.recipe import OBJECT, SMALL, STYLE
from unlearn_core.words.prompts import spread

PATH = "blocks.0.attn2.to_k"
KEPT = ["the cat", "the frog in ink style"]


def tokens_of(host, prompts):
    return TextReader(host).read(prompts).values


def wish(**changes):
    return config(closed_form=True, **changes)


def edit_of(host, target, erased=(), kept=KEPT):
    """An edit of some pairs, with no overshoot but what it is asked for."""
    gone = moments(TextReader(host), erased, [0.0] * len(erased)) if erased else None
    return Edit(
        moments(TextReader(host), target, [0.0] * len(target)), gone, moment_of(TextReader(host), kept).value, OBJECT
    )


def made(host, stack=None, anchor="pear", **changes):
    """The edit of a whole request."""
    with opened(host, wish(**changes), stack, SMALL) as run:
        return Edit.make(run, run.readers[0], PromptPairs.make(run.request, anchor))


def test_moments_do_not_depend_on_how_much_is_in_memory(monkeypatch):
    host, past, heard = TinyHost(), [0.0, 0.5, 0.0, 1.0, 0.5], []
    pairs = [(f"a banana {w}", f"a fire engine {w}") for w in ("red", "on a table", "in ink style", "at night", "now")]
    whole = moments(TextReader(host), pairs, past)
    monkeypatch.setattr("unlearn_core.method.closed_form.PROMPTS_AT_ONCE", 2)
    monkeypatch.setattr("unlearn_core.method.token_moments.TOKENS_AT_ONCE", 7)
    for one, other in zip(whole, moments(TextReader(host), pairs, past, lambda: heard.append(1)), strict=True):
        assert torch.allclose(one, other)
    assert len(heard) == 3  # so that a stop need not wait for thousands of prompts
    assert torch.allclose(second_moment(tokens_of(host, [p for p, _ in pairs])), whole[1])


@pytest.mark.parametrize(
    "pair, cut_at",
    [
        (("a banana in ink style", "a truck in ink style"), ("a banana", "a truck")),
        (("an apple, flat", "a fire engine, flat"), ("an apple,", "a fire engine,")),
        (("one flat banana", "one flat pear"), ("one flat banana", "one flat pear")),
        (("a banana", ""), ("a banana", "")),
    ],
)
def test_prompts_are_cut_after_the_last_word_that_differs(pair, cut_at):
    assert cut(*pair) == cut_at


def places(host, pairs):
    reader = TextReader(host)
    return counterparts(reader, pairs, *(reader.read(side) for side in zip(*pairs, strict=True)))


def test_tokens_after_a_longer_or_shorter_word_find_their_counterparts():
    pairs = [("a banana in ink", "a fire engine in ink"), ("a fire engine in ink", "a banana in ink")]
    longer, shorter = places(TinyHost(), pairs).tolist()
    assert longer == [0, 2, 3, 4, 5, 6, 7, 8, 9, 9]
    assert shorter == [0, 1, 1, 2, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize("after", ["", " red", " two", " red two", " now"])
def test_it_does_not_matter_what_follows_the_word(after):
    (row,) = places(TinyHost(), [("a banana" + after, "a fire engine" + after)]).tolist()
    assert row[:3] == [0, 2, 3]


def test_words_beyond_what_the_encoder_reads_keep_their_places():
    pairs = [("a b c d e f g h i j banana", "a b c d e f g h i j pear"), ("a banana", "a pear")]
    assert places(TinyHost(), pairs).tolist() == [list(range(10))] * 2


class Bidirectional(TinyHost):
    """Every token hears of every other one, as in T5."""

    def encode(self, prompts):
        rows = super().encode(prompts)
        rows.tokens.add_(rows.tokens.mean(1, keepdim=True))
        return rows


def test_without_counterparts_there_is_no_edit_and_the_run_trains():
    assert places(Bidirectional(), [("a banana", "a pear")]) is None
    assert made(Bidirectional()) is None
    report = run(Bidirectional(), wish()).report
    assert (report["preserve_scale"], report["steps"], report["way"]) == (0.0, 6, "training, 6 steps")


def test_an_earlier_target_without_counterparts_is_no_edit_either(monkeypatch):
    found = [("target",) * 2, None]
    monkeypatch.setattr("unlearn_core.method.closed_form.moments", lambda *_: found.pop(0))
    host = TinyHost()
    assert made(host, stack_on(host, {"concept": "frog", "prompts": (("a frog", "a cat"),)})) is None and not found


def test_truncation_is_the_best_of_its_rank_and_always_the_same():
    matrix = torch.diag(torch.tensor([1.0, 4.0, 3.0, 2.0], dtype=torch.float64))
    torch.manual_seed(1)
    first, state = truncated(matrix, 2), torch.random.get_rng_state()
    torch.manual_seed(2)
    again = truncated(matrix, 2)
    assert all(map(torch.equal, first, again)) and not torch.equal(state, torch.random.get_rng_state())
    out, sizes, rows = first
    assert torch.allclose(out * sizes @ rows, torch.diag(torch.tensor([0.0, 4.0, 3.0, 0.0]).double()), atol=1e-9)


def test_at_full_rank_the_edit_is_the_least_squares_solution():
    host, (target, drawn) = TinyHost(), ("a banana", "a pear")
    weight = host.backbone.get_submodule(PATH).weight
    edit = edit_of(host, [(target, drawn)])
    ((_, down, up),) = edit.factors({PATH: weight}, {}, 16, (10.0, 0.5))
    t, m, k = (
        tokens_of(host, p).flatten(0, 1).double() for p in ([target], [drawn], ["the cat", "the frog in ink style"])
    )
    w, ridge = weight.double(), OBJECT.ridge * float(edit.target[1].diagonal().mean())
    # rows: what shall hold, each group in its share and the ridge as rows of their own
    left = torch.cat([t / len(t) ** 0.5, k * (10 / len(k)) ** 0.5, ridge**0.5 * torch.eye(16).double()])
    right = torch.cat([1.5 * (m - t) @ w.T / len(t) ** 0.5, torch.zeros(len(k) + 16, 16).double()])
    best = torch.linalg.lstsq(left, right).solution.T
    assert torch.allclose((up @ down).double(), best, atol=1e-5) and best.abs().max() > 0.01
    assert torch.allclose(down.norm(dim=1), torch.ones(16), atol=1e-5)


def test_a_larger_preserve_scale_moves_the_target_less_and_the_rest_less():
    host, pair = TinyHost(), ("a banana in ink style", "a pear in ink style")
    weight, moved = host.backbone.get_submodule(PATH).weight, []
    edit, kept = edit_of(host, [pair]), tokens_of(host, KEPT)
    for scale in (30.0, 10.0, 3.0):
        ((_, down, up),) = edit.factors({PATH: weight}, {}, 8, (scale, 0.0))
        moved.append([float((t @ down.T @ up.T).square().mean()) for t in (tokens_of(host, pair[:1]), kept)])
    assert moved == sorted(moved) and sorted(m[1] for m in moved) == [m[1] for m in moved]


def test_what_an_earlier_delta_has_left_undone_is_mended():
    """An earlier request's prompts and preserved ones are led to where they belong, whatever the stack does to them."""
    host, pair, before = TinyHost(), ("a banana", "a pear"), ("a frog", "a cat")
    weight = host.backbone.get_submodule(PATH).weight
    added = 0.3 * torch.randn(16, 16, generator=torch.Generator().manual_seed(0))
    kept = tokens_of(host, KEPT)
    e, m = (tokens_of(host, [p]) for p in before)

    def errors(change):
        return [float((c @ change.T - goal).square().mean()) for c, goal in ((kept, 0.0), (e, (m - e) @ weight.T))]

    edit = edit_of(host, [pair], [before])
    ((_, down, up),) = edit.factors({PATH: weight + added}, {PATH: added}, 16, (30.0, 0.0))
    assert all(now < 0.2 * then for now, then in zip(errors(added + up @ down), errors(added), strict=True))


def test_beyond_ten_each_earlier_target_weighs_what_one_of_ten_does():
    """What is left of an earlier target when its prompts draw it again: less, the more share the same moment."""
    host, pair, before = TinyHost(), ("a banana", "a pear"), ("a frog", "a cat")
    weight = host.backbone.get_submodule(PATH).weight
    (e, m), edit = (tokens_of(host, [p]) for p in before), edit_of(host, [pair], [before])

    def left(count):
        ((_, down, up),) = replace(edit, earlier=count).factors({PATH: weight}, {}, 16, (3.0, 0.0))
        return float((e @ (up @ down).T - (m - e) @ weight.T).square().mean())

    assert left(0) == left(1) == left(10) > left(20) > left(100)
    # of 400 each weighs what one of ten does: together forty times as much; what stays eight times as much (sixteen
    # times 25 of them, to the power of 3/4), and they are led 0.15 * 7 of the way further
    for count, (weigh, held, past) in {20: (2, 1, 1), 400: (40, 8, 2.05)}.items():
        ((_, down, up),) = replace(edit, earlier=count).factors({PATH: weight}, {}, 16, (3.0, 0.0))
        cross, gram = edit.erased
        same = replace(edit, erased=(weigh * past * cross, weigh * gram), preserved=held * edit.preserved)
        ((_, down_2, up_2),) = same.factors({PATH: weight}, {}, 16, (3.0, 0.0))
        assert torch.allclose(up @ down, up_2 @ down_2)


def test_what_is_tried_with_a_small_scale_lets_no_earlier_target_return():
    """A least scale for earlier targets is as much weight on them, and nothing where the scale is larger."""
    host = TinyHost()
    weight = host.backbone.get_submodule(PATH).weight
    edit = edit_of(host, [("a banana", "a pear")], [("a frog", "a cat")])

    def change(scale, **constants):
        asked = replace(edit, recipe=replace(OBJECT, **constants))
        ((_, down, up),) = asked.factors({PATH: weight}, {}, 16, (scale, 0.0))
        return up @ down

    least = change(3.0, earlier_scale=30.0)
    assert torch.allclose(least, change(3.0, earlier_weight=10 * OBJECT.earlier_weight), atol=1e-5)
    assert not torch.allclose(least, change(3.0), atol=1e-3)
    assert torch.equal(change(30.0, earlier_scale=30.0), change(30.0))


def test_a_style_that_has_gone_has_an_overshoot_of_its_own():
    host, prompts = TinyHost(), (("a frog in ink style", "a frog in flat style"),)
    one, other = (made(host, stack_on(host, {"concept": "ink", "kind": k, "prompts": prompts})) for k in SMALL)
    past = (1 + STYLE.earlier_overshoot) / (1 + OBJECT.earlier_overshoot)
    assert torch.allclose(other.erased[0], past * one.erased[0]) and past > 1
    assert one.erased[0].abs().max() > 0
    assert torch.equal(one.erased[1], other.erased[1]) and torch.equal(one.target[0], other.target[0])


def test_a_request_costs_the_same_however_many_came_before():
    host = TinyHost()
    prompts = tuple((f"a frog {i}", f"a cat {i}") for i in range(30))
    stack = stack_on(host, {"concept": "frog", "prompts": prompts})
    few = {kind: replace(recipe, earlier_prompts=10) for kind, recipe in SMALL.items()}
    with opened(host, wish(), stack, few) as run:
        pairs = PromptPairs.make(run.request, "pear")
        assert torch.equal(
            Edit.make(run, run.readers[0], pairs).erased[1],
            moments(TextReader(host), spread(prompts, 10, 0), [0.0] * 10)[1],
        )


@pytest.fixture
def blind(monkeypatch):
    """A check that never finds the target; the fixture is the list of its questions."""
    asked = []
    monkeypatch.setattr(Evaluator, "still_generated", lambda self, *given: asked.append(given))
    monkeypatch.setattr(Evaluator, "gone", lambda *_: True)
    return asked


def test_a_target_that_goes_at_once_costs_no_step(blind, tmp_path):
    host, phases = TinyHost(), []
    before = state_of(host)
    result = run(host, wish(), progress=lambda r: phases.append(r.phase))
    assert_same(before, state_of(host))
    assert list(dict.fromkeys(phases)) == ["sampling", "choosing", "before", "editing", "after"]
    assert blind == [(0, False)]
    assert result.report["preserve_scale"] == OBJECT.tries[0][0]
    assert result.report["way"] == "at once, without training"
    assert result.delta.info.steps == result.report["steps"] == 0 and result.after is not None
    assert {p.removeprefix("diffusion_model.") for p in result.delta.factors} == {
        p for p in host.layers().values() if reads_text(p)
    }
    again = run(TinyHost(), wish()).delta
    assert save(result.delta, tmp_path / "1.safetensors") == save(again, tmp_path / "2.safetensors")


def way_left(host, delta, pair, *stack):
    """Part of the way from a prompt's answer to that of what is drawn for it that a stack leaves."""
    t, m = (tokens_of(host, [p]) for p in pair)
    layer = host.backbone.get_submodule(PATH)
    goal = layer(m)
    gap = (layer(t) - goal).square().mean()
    whole = Stack()
    for one in (*stack, delta):
        whole = whole.with_delta(one)
    with host.session(whole):
        return float((layer(t) - goal).square().mean() / gap)


def test_the_edit_leads_the_layers_answer_to_the_anchors(blind):
    """Part of the way: hundreds of preserved words fill a text space of sixteen directions."""
    host = TinyHost()
    delta = run(host, wish()).delta
    assert way_left(host, delta, delta.info.prompts[0]) < 0.9


def test_a_second_request_is_solved_with_the_first(blind):
    host = TinyHost()
    first = run(host, wish()).delta
    second = run(host, wish(concept="frog", anchor="cat"), Stack().with_delta(first)).delta
    assert way_left(host, second, first.info.prompts[0], first) < 0.5


def test_what_is_still_drawn_is_preserved_less_and_then_trained(monkeypatch):
    asked, fractions = [], []
    monkeypatch.setattr(Evaluator, "still_generated", lambda self, *given: asked.append(given) or True)
    report = run(TinyHost(), wish(), progress=lambda r: fractions.append(r.fraction)).report
    tries = len(OBJECT.tries)
    assert asked == [*((n, False) for n in range(tries)), (tries, True)]
    assert (report["preserve_scale"], report["steps"]) == (0.0, 6)
    assert fractions == sorted(fractions) and fractions[-1] == 1.0


def test_each_try_is_made_as_the_recipe_says(monkeypatch):
    seen, factors = [], Edit.factors
    monkeypatch.setattr(Evaluator, "still_generated", lambda self, *given: not given[-1])
    monkeypatch.setattr(Evaluator, "gone", lambda *_: True)
    monkeypatch.setattr(Edit, "factors", lambda self, *given: seen.append(given[2:4]) or factors(self, *given))
    assert run(TinyHost(), wish()).report["preserve_scale"] == OBJECT.tries[-1][0]
    assert seen == [(8, (scale, pytest.approx(OBJECT.overshoot + more))) for scale, more in OBJECT.tries]
    seen.clear()
    run(TinyHost(), wish(overshoot=2.0, rank=3))
    assert seen == [(3, (scale, 2.0 + more)) for scale, more in OBJECT.tries]
    seen.clear()
    run(TinyHost(), wish(concept="ink", anchor="flat"))
    assert seen == [(8, (scale, pytest.approx(STYLE.overshoot + more))) for scale, more in STYLE.tries]


def test_training_begins_with_an_edit_of_a_larger_rank(monkeypatch):
    monkeypatch.setattr(Evaluator, "still_generated", lambda *_: True)
    wide = {kind: replace(recipe, least_rank=12) for kind, recipe in SMALL.items()}
    delta = run(TinyHost(), wish(steps=2), recipes=wide).delta
    assert {f.rank for f in delta.factors.values()} == {12}
    assert {f.rank for f in run(TinyHost(), wish(steps=2), recipes=SMALL).delta.factors.values()} == {8}


def test_where_the_card_is_full_the_cpu_solves(monkeypatch):
    places, factors = [], Edit.factors

    def full(self, *given):
        places.append(given[4])
        if len(places) == 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return factors(self, *given)

    monkeypatch.setattr("unlearn_core.method.closed_form.works_in_float64", lambda device: True)
    monkeypatch.setattr(Edit, "factors", full)
    assert run(TinyHost(), wish(quality="quick")).delta.factors and places == [torch.device("cpu")] * 2
    monkeypatch.setattr(Edit, "factors", lambda *_: torch.zeros(2) @ torch.zeros(3))
    with pytest.raises(RuntimeError):
        run(TinyHost(), wish(quality="quick"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a card")
def test_a_card_solves_as_the_cpu_does_and_draws_none_of_the_hosts_noise():
    host = TinyHost()
    weight, edit = host.backbone.get_submodule(PATH).weight, edit_of(host, [("a banana", "a pear")])
    state, found = torch.cuda.get_rng_state(), []
    for name in ("cpu", "cuda", "cuda"):
        ((_, *pair),) = edit.factors({PATH: weight.to(name)}, {PATH: weight / 9}, 4, (10.0, 0.5), torch.device(name))
        found.append(pair)
    (down, up), first, second = found
    assert torch.allclose(first[1] @ first[0], up @ down, atol=1e-5) and first[0].device == down.device
    assert all(map(torch.equal, first, second)) and torch.equal(torch.cuda.get_rng_state(), state)


def test_training_begins_where_the_last_edit_has_left_off(monkeypatch):
    """With a learning rate of nearly nothing the delta is that edit."""
    monkeypatch.setattr(Evaluator, "still_generated", lambda *_: True)
    trained = run(TinyHost(), wish(learning_rate=1e-6, steps=1)).delta
    monkeypatch.setattr(Evaluator, "still_generated", lambda self, *given: not given[-1])
    monkeypatch.setattr(Evaluator, "gone", lambda *_: True)
    edited = run(TinyHost(), wish()).delta
    for name, factor in edited.factors.items():
        assert torch.allclose(trained.factors[name].matrix(), factor.matrix(), atol=2e-3)


def test_a_stop_while_the_check_looks_keeps_nothing_before_the_last_look_and_a_mark_after_it(blind):
    host = TinyHost()
    before = state_of(host)
    with pytest.raises(Cancelled, match="before anything"):
        run(host, wish(), progress=lambda r: r.phase == "editing")
    assert_same(before, state_of(host))
    kept = run(host, wish(), progress=lambda r: r.phase == "after")
    assert kept.delta.info.stopped == "stopped before the last look" and kept.after is None
    assert_same(before, state_of(host))


def test_what_the_artist_keeps_is_preserved_more_than_what_no_list_names(blind):
    """Both words are unknown to the lists; one of them is on the artist's own."""
    host, prompts = TinyHost(), [f"a {w} in flat style" for w in ("gizmo", "doodad")]
    moved = []
    for keep in ((), ("gizmo",)):
        factor = run(host, wish(keep=keep)).delta.factors["diffusion_model." + PATH]
        moved.append([float((t @ factor.matrix().T).square().mean()) for t in tokens_of(host, prompts)])
    (kept_without, other_without), (kept, other) = moved
    assert kept / other < kept_without / other_without


def test_the_random_state_of_the_host_is_left_alone(monkeypatch):
    """`torch.manual_seed` would seed every card as well, and only the CPU's state is given back."""
    monkeypatch.setattr(torch, "manual_seed", lambda *_: pytest.fail("all devices are seeded"))
    before = torch.get_rng_state()
    first, again = (truncated(torch.arange(12.0).view(3, 4), 2)[1] for _ in range(2))
    assert torch.equal(first, again) and torch.equal(before, torch.get_rng_state())
