"""The closed-form edit: hand-computable cases, what the algebra promises on a stack, and the run that needs no step."""

import pytest
import torch

from tests.test_forget import assert_same, config, state_of
from tests.tiny import TinyHost
from unlearn_core import Cancelled, Stack, forget, save
from unlearn_core.evaluate.evaluator import Exam
from unlearn_core.method.closed_form import PAST_EARLIER, TRIES, Edit, counterparts, cut, moments, truncated
from unlearn_core.method.text_layers import guarded
from unlearn_core.method.token_moments import moment_of, second_moment, tokens_of

PATH = "blocks.0.attn2.to_k"
KEPT = ["the cat", "the frog in ink style"]


def one_go(**changes):
    return config(closed_form=True, **changes)


def edit_of(host, target, erased=(), kept=KEPT):
    return Edit.make(host, list(target), [(pair, "object") for pair in erased], moment_of(host, kept))


def test_moments_do_not_depend_on_how_much_is_in_memory(monkeypatch):
    host = TinyHost()
    pairs = [(f"a banana {w}", f"a fire engine {w}") for w in ("red", "on a table", "in ink style", "at night", "now")]
    whole = moments(host, pairs, [0.0, 0.5, 0.0, 1.0, 0.5])
    monkeypatch.setattr("unlearn_core.closed_form.AT_ONCE", 2)
    monkeypatch.setattr("unlearn_core.subspace.AT_ONCE", 7)
    for one, other in zip(whole, moments(host, pairs, [0.0, 0.5, 0.0, 1.0, 0.5]), strict=True):
        assert torch.allclose(one, other)
    texts, weights = [p for p, _ in pairs], [1.0, 0.5, 0.25, 1.0, 0.1]
    tokens = tokens_of(host, texts)
    assert torch.allclose(second_moment(tokens), whole[1])
    monkeypatch.setattr("unlearn_core.guard.AT_ONCE", 2)
    assert torch.allclose(moment_of(host, texts).value, whole[1])
    heard = []
    assert Edit.make(host, pairs, [(pair, "object") for pair in pairs], moment_of(host, KEPT), lambda: heard.append(1))
    assert len(heard) == 2 * 3  # so that a stop need not wait for thousands of sentences
    weighted = sum(w * second_moment(t) for w, t in zip(weights, tokens, strict=True)) / sum(weights)
    assert torch.allclose(moment_of(host, texts, weights).value, weighted)


@pytest.mark.parametrize(
    "pair, cut_at",
    [
        (("a banana in ink style", "a truck in ink style"), ("a banana", "a truck")),
        (("an apple, flat", "a fire engine, flat"), ("an apple,", "a fire engine,")),
        (("one flat banana", "one flat pear"), ("one flat banana", "one flat pear")),
        (("a banana", ""), ("a banana", "")),
    ],
)
def test_sentences_are_cut_after_the_last_word_that_differs(pair, cut_at):
    assert cut(*pair) == cut_at


def places(host, pairs):
    return counterparts(host, pairs, *(tokens_of(host, side) for side in zip(*pairs, strict=True)))


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
    assert edit_of(Bidirectional(), [("a banana", "a pear")]) is None
    report = forget(Bidirectional(), one_go()).report
    assert (report["firmness"], report["steps"], report["way"]) == (0.0, 6, "6 steps")


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
    ((_, down, up),) = edit.factors({PATH: weight}, {}, 16, 10.0, 0.5)
    t, m, k = (
        tokens_of(host, p).flatten(0, 1).double() for p in ([target], [drawn], ["the cat", "the frog in ink style"])
    )
    w = weight.double()
    # rows: what shall hold, each group in its share and the ridge as rows of their own
    left = torch.cat([t / len(t) ** 0.5, k * (10 / len(k)) ** 0.5, edit.ridge**0.5 * torch.eye(16).double()])
    right = torch.cat([1.5 * (m - t) @ w.T / len(t) ** 0.5, torch.zeros(len(k) + 16, 16).double()])
    best = torch.linalg.lstsq(left, right).solution.T
    assert torch.allclose((up @ down).double(), best, atol=1e-5) and best.abs().max() > 0.01
    assert torch.allclose(down.norm(dim=1), torch.ones(16), atol=1e-5)


def test_a_firmer_edit_moves_the_target_less_and_the_rest_less():
    host, pair = TinyHost(), ("a banana in ink style", "a pear in ink style")
    weight, moved = host.backbone.get_submodule(PATH).weight, []
    edit, kept = edit_of(host, [pair]), tokens_of(host, KEPT)
    for firmness in (30.0, 10.0, 3.0):
        ((_, down, up),) = edit.factors({PATH: weight}, {}, 8, firmness, 0.0)
        moved.append([float((t @ down.T @ up.T).square().mean()) for t in (tokens_of(host, pair[:1]), kept)])
    assert moved == sorted(moved) and sorted(m[1] for m in moved) == [m[1] for m in moved]


def test_what_an_earlier_delta_has_left_undone_is_mended():
    """An earlier request's sentences and kept ones are led to where they belong, whatever the stack does to them."""
    host, pair, before = TinyHost(), ("a banana", "a pear"), ("a frog", "a cat")
    weight = host.backbone.get_submodule(PATH).weight
    added = 0.3 * torch.randn(16, 16, generator=torch.Generator().manual_seed(0))
    kept = tokens_of(host, KEPT)
    e, m = (tokens_of(host, [p]) for p in before)

    def errors(change):
        return [float((c @ change.T - goal).square().mean()) for c, goal in ((kept, 0.0), (e, (m - e) @ weight.T))]

    edit = edit_of(host, [pair], [before])
    ((_, down, up),) = edit.factors({PATH: weight + added}, {PATH: added}, 16, 30.0, 0.0)
    assert all(now < 0.2 * then for now, then in zip(errors(added + up @ down), errors(added), strict=True))


def test_a_style_that_has_gone_has_an_overshoot_of_its_own():
    host, pair, before = TinyHost(), ("a banana", "a pear"), ("a frog in ink style", "a frog in flat style")
    one, other = (Edit.make(host, [pair], [(before, kind)], moment_of(host, KEPT)) for kind in PAST_EARLIER)
    assert torch.allclose(other.erased[0], (1 + PAST_EARLIER["style"]) * one.erased[0])
    assert one.erased[0].abs().max() > 0
    assert torch.equal(one.erased[1], other.erased[1]) and torch.equal(one.target[0], other.target[0])


@pytest.fixture
def blind(monkeypatch):
    """A judge that never finds the target; `asked` are its questions."""
    asked = []
    monkeypatch.setattr(Exam, "still_drawn", lambda *given: asked.append(given[-2:]))
    return asked


def test_a_target_that_goes_in_one_go_costs_no_step(blind, tmp_path):
    host, phases = TinyHost(), []
    before = state_of(host)
    result = forget(host, one_go(), progress=lambda r: phases.append(r.phase))
    assert_same(before, state_of(host))
    assert list(dict.fromkeys(phases)) == ["sampling", "choosing", "before", "editing", "after"]
    assert blind == [(0, False)]
    assert result.report["firmness"] == TRIES[0][0] and result.report["way"] == "in one go, firmness 30"
    assert result.delta.info.steps == result.report["steps"] == 0 and result.after is not None
    assert set(result.delta.factors) and all(guarded(p.removeprefix("diffusion_model.")) for p in result.delta.factors)
    again = forget(TinyHost(), one_go()).delta
    assert save(result.delta, tmp_path / "1.safetensors") == save(again, tmp_path / "2.safetensors")


def test_the_edit_leads_the_layers_answer_to_the_replacements(blind):
    """Part of the way: hundreds of kept words fill a text space of sixteen directions."""
    host = TinyHost()
    delta = forget(host, one_go()).delta
    (target, drawn), *_ = delta.info.prompts
    t, m = (tokens_of(host, [p]) for p in (target, drawn))
    layer = host.backbone.get_submodule(PATH)
    goal = layer(m)
    gap = (layer(t) - goal).square().mean()
    with host.session(Stack().with_delta(delta)):
        assert (layer(t) - goal).square().mean() < 0.9 * gap


def test_what_is_still_drawn_is_held_less_and_then_trained(monkeypatch):
    asked = []
    monkeypatch.setattr(Exam, "still_drawn", lambda *given: asked.append(given[-2:]) or True)
    fractions = []
    report = forget(TinyHost(), one_go(), progress=lambda r: fractions.append(r.fraction)).report
    assert asked == [*((n, False) for n in range(len(TRIES))), (len(TRIES), True)]
    assert (report["firmness"], report["steps"]) == (0.0, 6)
    assert fractions == sorted(fractions) and fractions[-1] == 1.0


def test_the_loosest_edit_is_taken_when_the_verdict_is_content(monkeypatch):
    monkeypatch.setattr(Exam, "still_drawn", lambda *given: not given[-1])
    assert forget(TinyHost(), one_go()).report["firmness"] == TRIES[-1][0]


def test_a_stop_while_the_judge_looks_keeps_nothing_before_the_last_look_and_a_mark_after_it(blind):
    host = TinyHost()
    before = state_of(host)
    with pytest.raises(Cancelled, match="before anything"):
        forget(host, one_go(), progress=lambda r: r.phase == "editing")
    assert_same(before, state_of(host))
    kept = forget(host, one_go(), progress=lambda r: r.phase == "after")
    assert kept.delta.info.stopped == "stopped before the last look" and kept.after is None
    assert_same(before, state_of(host))


def test_what_the_artist_keeps_is_held_more_than_what_no_list_names(blind):
    """Both words are unknown to the lists; one of them is on the artist's own."""
    host, sentences = TinyHost(), [f"a {w} in flat style" for w in ("gizmo", "doodad")]
    moved = []
    for keep in ((), ("gizmo",)):
        delta = forget(host, one_go(keep=keep)).delta
        factor = delta.factors["diffusion_model." + PATH]
        moved.append([float((t @ factor.matrix().T).square().mean()) for t in tokens_of(host, sentences)])
    (kept_without, other_without), (kept, other) = moved
    assert kept / other < kept_without / other_without


def test_a_second_request_is_solved_with_the_first(blind):
    host = TinyHost()
    first = forget(host, one_go()).delta
    second = forget(host, one_go(concept="frog", anchor="cat"), Stack().with_delta(first)).delta
    (target, drawn), *_ = first.info.prompts
    t, m = (tokens_of(host, [p]) for p in (target, drawn))
    layer = host.backbone.get_submodule(PATH)
    goal = layer(m)
    gap = (layer(t) - goal).square().mean()
    with host.session(Stack().with_delta(first).with_delta(second)):
        assert (layer(t) - goal).square().mean() < 0.5 * gap
