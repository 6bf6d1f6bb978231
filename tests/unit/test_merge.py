"""Merge algebra on real networks of width 8."""

import math
from dataclasses import replace

import pytest
import torch

from tests.small import BASE, A, B, C, a_delta, a_net, info, output_under, stack_of, weights_under
from unlearn_core.delta.format import Delta, Factor, Parent, load, save
from unlearn_core.delta.merge import combine_cat, combine_svd
from unlearn_core.delta.stack import Stack
from unlearn_core.errors import BadDelta, BadSetting


@pytest.fixture
def net():
    return a_net()


@pytest.mark.parametrize("strengths", [(1.0, 1.0, 1.0), (1.0, -0.5, 0.25), (2.0, 0.0, -2.0)])
def test_cat_is_the_deltas_one_by_one(net, strengths):
    stack = stack_of(*zip((A, B, C), strengths, strict=True))
    merge = combine_cat(stack)
    one_by_one, merged = weights_under(net, stack), weights_under(net, Stack().with_delta(merge))
    for name in one_by_one:
        assert torch.allclose(one_by_one[name], merged[name], atol=1e-5)
    ranks = sum(f.rank for (d, s) in zip((A, B, C), strengths, strict=True) if s for f in [d.factors["lora_unet_last"]])
    factor = merge.factors["lora_unet_last"]
    assert factor.rank == factor.alpha == ranks and factor.scale == 1


def test_cat_survives_its_file(net, tmp_path):
    stack = stack_of((A, 0.3), (B, 1.0))
    merge = combine_cat(stack)
    save(merge, tmp_path / "merge.safetensors")
    back = load(tmp_path / "merge.safetensors")
    assert back.info == merge.info
    assert torch.allclose(output_under(net, stack), output_under(net, Stack().with_delta(back)), atol=1e-5)


@pytest.mark.parametrize(("wide", "tall"), [(8, 6), (6, 8), (6, 6)])
def test_cat_of_more_ranks_than_the_layer_has_is_exact_and_readable(wide, tall, tmp_path):
    g = torch.Generator().manual_seed(0)
    parts = [(torch.randn(5, wide, generator=g), torch.randn(tall, 5, generator=g)) for _ in range(3)]
    deltas = [Delta({"a": Factor(d, u, 2.0)}, info(f"concept {i}")) for i, (d, u) in enumerate(parts)]
    save(combine_cat(stack_of(*zip(deltas, (1.0, -0.5, 2.0), strict=True))), tmp_path / "merge.safetensors")
    factor = load(tmp_path / "merge.safetensors").factors["a"]
    wanted = sum(s * 0.4 * u.double() @ d.double() for s, (d, u) in zip((1.0, -0.5, 2.0), parts, strict=True))
    assert factor.rank == factor.alpha == 6 and factor.matrix().shape == (tall, wide)
    assert torch.allclose(factor.matrix().double(), wanted, rtol=1e-6, atol=1e-6)


def test_a_hundred_deltas_become_one_file(tmp_path):
    deltas = []
    for i in range(100):
        pairs = tuple((f"a photo of a concept {i}, scene {j}", f"a photo of a dog, scene {j}") for j in range(128))
        made = a_delta(f"concept {i}", i, names=("lora_unet_first",))
        near = tuple(f"word {j}" for j in range(i, i + 50))
        deltas.append(replace(made, info=replace(made.info, prompts=pairs, near=near)))
    save(combine_cat(stack_of(*((d, 1.0) for d in deltas))), tmp_path / "merge.safetensors")
    info = load(tmp_path / "merge.safetensors").info
    assert len(info.merged) == 100 and len(info.prompts) == 6_400
    assert info.near == tuple(f"word {j}" for j in range(149))
    assert all(sum(p.startswith(f"a photo of a concept {i},") for p, _ in info.prompts) == 64 for i in (0, 50, 99))


@pytest.mark.parametrize(("count", "kept"), [(9_990, 8), (9_997, 1), (9_998, 0)])
def test_what_was_below_a_merge_leaves_room_for_fewer_prompts(count, kept):
    below = tuple(Parent("p", f"{i:064x}", 1.0, "p") for i in range(count))
    high, other = a_delta("one", 5, parents=below, prompts=()), a_delta("two", 6, prompts=())
    assert combine_cat(stack_of((high, 1.0), (other, 1.0))).info.prompts == ()
    pairs = tuple((f"a cat {i}", "a dog") for i in range(8))
    merged = combine_cat(stack_of((high, 1.0), (replace(other, info=replace(other.info, prompts=pairs)), 1.0))).info
    assert (len(merged.parents), len(merged.merged), merged.prompts) == (count, 2, pairs[:kept])


def test_more_below_a_merge_than_a_file_holds_is_a_sentence():
    below = [tuple(Parent("p", f"{i}{n:063x}", 1.0, "p") for n in range(5_000)) for i in range(2)]
    high = [a_delta(f"concept {i}", i, parents=parents) for i, parents in enumerate(below)]
    with pytest.raises(BadDelta, match="more than 10000 others in all, so no file can hold them: merge fewer"):
        combine_cat(stack_of(*((d, 1.0) for d in high)))


def test_cat_of_different_layers(net):
    one, other = a_delta("one", 7, names=("lora_unet_first",)), a_delta("two", 8, names=("lora_unet_last",))
    merge = combine_cat(stack_of((one, 1.0), (other, 1.0)))
    assert list(merge.factors) == ["lora_unet_first", "lora_unet_last"]
    assert torch.allclose(merge.factors["lora_unet_first"].matrix(), one.factors["lora_unet_first"].matrix(), atol=1e-6)


def test_merge_says_what_is_inside():
    style = a_delta("monet", 9, kind="style", anchor="photo", steps=5, stopped="stopped at step 5")
    child = a_delta(
        "frog",
        2,
        anchor="dog",
        steps=7,
        parents=(Parent("gone", "e" * 64, 1.0, "tree"), *stack_of((style, 1.0)).parents()),
    )
    stack = stack_of((style, 0.5), (child, -1.0), (C, 0.0))
    merged = combine_cat(stack).info
    assert merged.concepts == ("monet", "frog") and merged.concept == "monet + frog" and merged.anchor == "photo + dog"
    assert Stack().with_delta(combine_cat(stack)).with_delta(a_delta("hare", 4, anchor="dog")).anchors() == (
        "photo",
        "dog",
    )
    assert merged.merged == stack.parents()[:2]
    assert [p.name for p in merged.parents] == ["gone"]
    assert merged.prompts == (("a monet", "a thing"), ("both", "nothing"), ("a frog", "a thing"))
    assert (merged.kind, merged.steps, merged.stopped) == ("object", 12, "monet: stopped at step 5")
    assert (merged.base_fingerprint, merged.architecture, merged.config) == (BASE, "sd1", {"merge": "cat"})
    assert combine_cat(stack_of((style, 1.0))).info.kind == "style"


def test_merge_of_a_merge_is_flat(net):
    inner = combine_cat(stack_of((A, 0.5), (B, 1.0)))
    stack = stack_of((inner, -0.5), (C, 1.0))
    merge = combine_cat(stack)
    assert [(p.name, p.strength) for p in merge.info.merged] == [("banana", -0.25), ("frog", -0.5), ("cat", 1.0)]
    assert torch.allclose(output_under(net, stack), output_under(net, Stack().with_delta(merge)), atol=1e-5)


def test_many_concepts_make_a_short_line():
    stack = Stack()
    for i in range(12):
        stack = stack.with_delta(a_delta(f"concept number {i}", 20 + i))
    assert len(combine_cat(stack).info.concept) == 120 and len(combine_cat(stack).info.concepts) == 12


@pytest.mark.parametrize(
    "stack, words",
    [
        (Stack(), "nothing to merge"),
        (stack_of((A, 0.0)), "nothing to merge"),
        (stack_of((A, 1.0), (a_delta("x", 5, base_fingerprint="f" * 16), 1.0)), f"{BASE}.*{'f' * 16}"),
        (stack_of((A, 1.0), (a_delta("x", 5, prediction_type="v_prediction"), 1.0)), "epsilon.*v_prediction"),
    ],
)
def test_what_cannot_be_merged(stack, words):
    with pytest.raises(BadDelta, match=words):
        combine_cat(stack)


def test_layers_of_different_sizes_cannot_be_merged():
    wide = Delta({"lora_unet_last": Factor(torch.ones(1, 9), torch.ones(8, 1), 1.0)}, info("wide"))
    with pytest.raises(BadDelta, match="different sizes"):
        combine_cat(stack_of((A, 1.0), (wide, 1.0)))


@pytest.mark.parametrize("rank", [5, 8, 20])
def test_svd_of_full_rank_is_exact(net, rank):
    stack = stack_of((A, 0.7), (B, 1.0))
    merge, error = combine_svd(stack, rank)
    assert error == 0
    assert torch.allclose(output_under(net, stack), output_under(net, Stack().with_delta(merge)), atol=1e-5)
    assert merge.factors["lora_unet_last"].rank == 5
    assert merge.info.config == {"merge": "svd", "rank": rank}


def test_svd_of_more_ranks_than_the_layer_is_wide(net):
    stack = stack_of((a_delta("one", 5, rank=7), 1.0), (a_delta("two", 6, rank=7), -1.0))
    merge, error = combine_svd(stack, 8)
    assert error < 1e-12 and merge.factors["lora_unet_last"].rank == 8
    assert torch.allclose(output_under(net, stack), output_under(net, Stack().with_delta(merge)), atol=1e-4)


def test_svd_is_the_best_approximation_of_its_rank():
    stack = stack_of((A, 1.0), (B, 1.0))
    merge, error = combine_svd(stack, 2)
    lost = total = 0.0
    for name, factor in merge.factors.items():
        whole = (A.factors[name].matrix() + B.factors[name].matrix()).double()
        lost += (whole - factor.matrix().double()).square().sum().item()
        total += whole.square().sum().item()
        best = torch.linalg.svdvals(whole)[2:].square().sum().item()
        assert (whole - factor.matrix().double()).square().sum().item() == pytest.approx(best, rel=1e-4)
    assert error == pytest.approx(math.sqrt(lost / total), rel=1e-4)


def test_svd_error_by_hand():
    """Singular values 4 and 3 in one layer, 12 in the other: rank 1 loses the 3, so 3 / sqrt(4^2 + 3^2 + 12^2)."""

    def unit(i, size):
        return torch.eye(size)[i]

    def one(layer, i, size, strength):
        # alpha 2 at rank 1 doubles: up = half of the value wanted
        return Factor(unit(i, size)[None], strength / 2 * unit(i, 8)[:, None], 2.0)

    big = Delta({"a": one("a", 0, 8, 4.0), "b": one("b", 3, 8, 12.0)}, info("big"))
    little = Delta({"a": one("a", 1, 8, 6.0)}, info("little"))
    merge, error = combine_svd(stack_of((big, 1.0), (little, -0.5)), 1)
    assert error == pytest.approx(3 / 13)
    expected = torch.zeros(8, 8)
    expected[0, 0] = 4
    assert torch.allclose(merge.factors["a"].matrix(), expected, atol=1e-6)
    assert combine_svd(stack_of((big, 1.0), (little, -0.5)), 2)[1] == pytest.approx(0, abs=1e-12)


def test_svd_never_forms_the_layer(monkeypatch):
    sizes = []
    svd = torch.linalg.svd
    monkeypatch.setattr(torch.linalg, "svd", lambda m, **k: sizes.append(tuple(m.shape)) or svd(m, **k))
    wide = [
        Delta({"a": Factor(torch.randn(2, 300), torch.randn(400, 2), 1.0)}, info(concept)) for concept in ("one", "two")
    ]
    combine_svd(stack_of(*((d, 1.0) for d in wide)), 2)
    assert sizes == [(4, 4)]


def test_svd_refuses_what_makes_no_sense():
    with pytest.raises(BadSetting, match="rank"):
        combine_svd(stack_of((A, 1.0)), 0)
    minus = Delta({n: Factor(f.down, -f.up, f.alpha) for n, f in A.factors.items()}, info("minus"))
    with pytest.raises(BadDelta, match="change nothing"):
        combine_svd(stack_of((A, 1.0), (minus, 1.0)), 2)
