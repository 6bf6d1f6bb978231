"""Stacks on real networks of width 8: applied and taken off, their lineage, their words on the command line."""

import dataclasses
import math
import re
from pathlib import Path

import pytest
import torch

from tests.small import BASE, LAYERS, A, B, C, X, a_delta, a_net, info, output_under, stack_of, weights_under
from unlearn_core.delta.apply import applied, to_itself
from unlearn_core.delta.format import Delta, Factor, Parent
from unlearn_core.delta.merge import combine_cat
from unlearn_core.delta.stack import OtherBase, Stack, check_fits, lineage, parse_entry
from unlearn_core.errors import BadDelta, BadSetting, UnlearnError


@pytest.fixture
def net():
    return a_net()


# Application


def test_applied_adds_the_matrices(net):
    stack = stack_of((A, 1.0), (B, -0.5))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    after = weights_under(net, stack)
    for name, path in LAYERS.items():
        change = A.factors[name].matrix() - 0.5 * B.factors[name].matrix()
        assert torch.allclose(
            after[path + ".weight"].flatten(1), before[path + ".weight"].flatten(1) + change, atol=1e-6
        )
    assert torch.equal(after["first.bias"], before["first.bias"])


def test_applied_matches_adapters_run_beside_the_layer(net):
    with torch.no_grad():
        layer, f = net.first, B.factors["lora_unet_first"]
        beside = layer(X) + 2.0 / 3 * (X @ f.down.T @ f.up.T)
        with applied(net, LAYERS, stack_of((B, 1.0))):
            assert torch.allclose(layer(X), beside, atol=1e-5)


def test_number_of_matched_layers(net):
    with applied(net, LAYERS, stack_of((A, 1.0), (a_delta("one", 4, names=("lora_unet_first",)), 1.0))) as matched:
        assert matched == 4
    with applied(net, LAYERS, Stack()) as matched:
        assert matched == 0


def bits(net):
    return {name: (p.data_ptr(), p.detach().clone()) for name, p in net.named_parameters()}


def same_bits(net, before):
    for name, p in net.named_parameters():
        pointer, values = before[name]
        assert p.data_ptr() == pointer
        view = torch.int16 if p.element_size() == 2 else torch.int32
        assert torch.equal(p.detach().view(view), values.view(view)), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_original_bits_and_storage_come_back(net, dtype):
    net.to(dtype)
    net.first.weight.data[0, 0] = math.nan
    net.first.weight.data[0, 1] = -0.0
    before = bits(net)
    alias = net.last.weight.detach().view(64)
    with applied(net, LAYERS, stack_of((A, 1.0), (B, 0.3))):
        assert net.first.weight.data_ptr() == before["first.weight"][0]
        assert net.first.weight.dtype == dtype
        assert torch.equal(alias, net.last.weight.detach().view(64))
        assert not torch.equal(net.last.weight.detach(), before["last.weight"][1])
    same_bits(net, before)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_original_bits_come_back_after_an_exception(net, error):
    before = bits(net)
    with pytest.raises(error), applied(net, LAYERS, stack_of((A, 1.0))):
        raise error
    same_bits(net, before)


def test_original_bits_come_back_when_applying_fails_half_way(net):
    factors = {**A.factors, "lora_unet_last": Factor(torch.ones(1, 7), torch.ones(8, 1), 1.0)}
    before = bits(net)
    with pytest.raises(BadDelta, match="another size"), applied(net, LAYERS, stack_of((Delta(factors, A.info), 1.0))):
        pass
    same_bits(net, before)


def test_two_names_of_one_weight_are_restored(net):
    before = bits(net)
    layers = {"lora_unet_first": "tied", "lora_unet_last": "last"}
    with applied(net, layers, stack_of((A, 1.0))):
        both = A.factors["lora_unet_first"].matrix() + A.factors["lora_unet_last"].matrix()
        assert torch.allclose(net.last.weight.detach(), before["last.weight"][1] + both, atol=1e-6)
    same_bits(net, before)


def test_nested_stacks_come_off_one_by_one(net):
    alone = output_under(net, stack_of((A, 1.0)))
    with torch.no_grad(), applied(net, LAYERS, stack_of((A, 1.0))):
        with applied(net, LAYERS, stack_of((B, 1.0))):
            assert not torch.equal(net(X), alone)
        assert torch.equal(net(X), alone)


@pytest.mark.parametrize("stack", [Stack(), stack_of((A, 0.0))], ids=["empty", "strength 0"])
def test_nothing_touches_nothing(net, stack):
    versions = {name: p._version for name, p in net.named_parameters()}
    before = output_under(net, Stack())
    assert torch.equal(output_under(net, stack), before)
    assert {name: p._version for name, p in net.named_parameters()} == versions


def test_strength_is_linear(net):
    base = weights_under(net, Stack())
    one = weights_under(net, stack_of((A, 1.0)))
    for strength in (-2.0, -1.0, 0.25, 0.5, 2.0):
        for name, w in weights_under(net, stack_of((A, strength))).items():
            assert torch.allclose(w - base[name], strength * (one[name] - base[name]), atol=1e-5)


def test_order_does_not_matter_for_the_sum(net):
    one, other = output_under(net, stack_of((A, 1.0), (B, 1.0))), output_under(net, stack_of((B, 1.0), (A, 1.0)))
    assert torch.allclose(one, other, atol=1e-6)


def test_a_delta_that_matches_no_layer_is_an_error(net):
    other = a_delta("x", 5, names=("lora_unet_elsewhere",))
    with pytest.raises(BadDelta, match="'x'.*do nothing"), applied(net, LAYERS, stack_of((A, 1.0), (other, 1.0))):
        pass


def test_gradients_flow_to_the_input_only(net):
    net.requires_grad_(False)
    x = X.clone().requires_grad_()
    with applied(net, LAYERS, stack_of((A, 1.0))):
        net(x).sum().backward()
    assert x.grad.abs().sum() > 0 and all(p.grad is None and not p.requires_grad for p in net.parameters())


# The stack


def test_stack_grows_and_keeps_order():
    small = Stack().with_delta(A)
    stack = small.with_delta(B, 0.5)
    assert len(Stack()) == 0 and len(small) == 1 and len(stack) == 2
    assert [(e.delta, e.strength) for e in stack] == [(A, 1.0), (B, 0.5)]
    assert stack.concepts() == ("banana", "frog")
    assert stack.prompts() == (("a banana", "a thing"), ("both", "nothing"), ("a frog", "a thing"))
    assert stack.parents() == (
        Parent("banana", A.content_hash(), 1.0, "banana"),
        Parent("frog", B.content_hash(), 0.5, "frog"),
    )


@pytest.mark.parametrize("strength", [2.01, -3.0, math.nan, math.inf])
def test_strength_has_bounds(strength):
    with pytest.raises(BadSetting, match="'banana' is not from -2 to 2"):
        Stack().with_delta(A, strength)


def test_duplicates_are_refused_under_any_name():
    copy = Delta(dict(A.factors), info("something else"), "copy")
    with pytest.raises(BadDelta, match="'copy' is already in the stack"):
        stack_of((A, 1.0), (B, 1.0)).with_delta(copy, 0.5)
    merge = combine_cat(stack_of((A, 1.0), (B, 1.0)))
    with pytest.raises(BadDelta, match="already in the stack"):
        Stack().with_delta(merge).with_delta(A)
    with pytest.raises(BadDelta, match="already in the stack"):
        Stack().with_delta(B).with_delta(merge)
    assert len(Stack().with_delta(merge).with_delta(C)) == 2


def test_what_is_switched_off_does_not_act_twice():
    """Else a concept that is made anew beside its old delta, which is off, would be refused after all the work."""
    again = stack_of((A, 0.0), (B, 1.0)).with_delta(Delta(dict(A.factors), A.info, "again"))
    assert len(again) == 3 and len(again.active) == 2
    with pytest.raises(BadDelta, match="already in the stack"):
        again.with_delta(B)


def test_check_fits_counts_all_layers():
    assert check_fits(stack_of((A, 1.0), (B, 0.0)), BASE, "sd1", LAYERS) == 6
    assert check_fits(Stack(), BASE, "sd1", ()) == 0


@pytest.mark.parametrize(
    "delta, layers, words",
    [
        (a_delta(architecture="sdxl"), LAYERS, "'banana'.*sdxl.*sd1"),
        (a_delta(base_fingerprint="f" * 16), LAYERS, f"'banana'.*{'f' * 16}.*{BASE}"),
        (A, ["lora_unet_x"], "No layer of 'banana'"),
        (A, list(LAYERS)[:2], "1 of 3 layers of 'banana'.*lora_unet_last"),
        (Delta({n: Factor(f.down, f.up * 0, 1.0) for n, f in A.factors.items()}, A.info), LAYERS, "change nothing"),
    ],
    ids=["architecture", "base", "no layer", "some layers", "no effect"],
)
def test_check_fits_says_what_is_wrong(delta, layers, words):
    with pytest.raises(BadDelta, match=words):
        check_fits(Stack().with_delta(delta), BASE, "sd1", layers)


@pytest.mark.parametrize(
    ("made_for", "loaded", "words"),
    [
        ("dream.safetensors", "real.safetensors", "made for 'dream.safetensors', but the loaded checkpoint is 'real.s"),
        ("dream.safetensors", "", f"made for 'dream.safetensors', but the loaded checkpoint is {BASE}"),
        ("", "real.safetensors", f"made for the base {'f' * 16}, but the loaded checkpoint is 'real.safetensors'"),
        ("", "", f"made for the base {'f' * 16}, but the loaded checkpoint is {BASE}"),
        (
            "dream.ckpt",
            "dream.ckpt",
            "made for 'dream.ckpt' of other weights, but the loaded checkpoint is 'dream.ckpt'",
        ),
    ],
)
def test_another_base_is_told_by_name(made_for, loaded, words):
    delta = a_delta(base_fingerprint="f" * 16, base_name=made_for)
    with pytest.raises(OtherBase, match=re.escape(words)) as error:
        check_fits(Stack().with_delta(delta), BASE, "sd1", LAYERS, loaded)
    assert "load the one that it was made for. A copy with numbers of another type (bfloat16, fp8" in str(error.value)


def test_a_merge_keeps_the_name_of_its_base():
    named = [Delta(d.factors, dataclasses.replace(d.info, base_name="x.ckpt"), d.name) for d in (A, B)]
    assert combine_cat(stack_of(*((d, 1.0) for d in named))).info.base_name == "x.ckpt"


# Lineage


def on_top_of(stack, concept="cat", seed=3):
    return a_delta(concept, seed, parents=stack.parents())


def test_lineage_is_silent_when_all_is_as_trained():
    first = Stack().with_delta(A, 0.5)
    second = first.with_delta(on_top_of(first, "frog", 2))
    third = second.with_delta(on_top_of(second))
    assert lineage(third) == lineage(Stack()) == []


def test_lineage_names_a_missing_parent():
    child = on_top_of(stack_of((A, 1.0)))
    words = ["'cat' was made on top of 'banana', which is not on the stack, or switched off."]
    assert lineage(stack_of((child, 1.0))) == words
    assert lineage(stack_of((A, 0.0), (child, 1.0))) == words


def test_lineage_names_a_parent_above_its_child():
    child = on_top_of(stack_of((A, 1.0)))
    assert lineage(stack_of((child, 1.0), (A, 1.0))) == [
        "'cat' was made on top of 'banana', which must come before it.",
        "'banana' was made without 'cat': look at pictures with both.",
    ]


def test_lineage_names_another_strength():
    child = on_top_of(stack_of((A, 1.0)))
    assert lineage(stack_of((A, 0.5), (child, 1.0))) == [
        "'cat' was made on top of 'banana' at strength 1, but its strength is 0.5 here."
    ]


def test_lineage_names_another_order():
    frog = on_top_of(stack_of((A, 1.0)), "frog", 2)
    child = on_top_of(stack_of((A, 1.0), (frog, 1.0)))
    assert lineage(stack_of((frog, 1.0), (A, 1.0), (child, 1.0)))[-1] == (
        "'cat' was made on top of 'banana', 'frog' in this order, but the stack has another order."
    )


def test_lineage_names_a_stranger():
    assert lineage(stack_of((A, 1.0), (B, 1.0))) == ["'frog' was made without 'banana': look at pictures with both."]


def test_lineage_looks_into_merges():
    two = stack_of((A, 1.0), (on_top_of(stack_of((A, 1.0)), "frog", 2), 0.5))
    child = on_top_of(two)
    assert lineage(stack_of((combine_cat(two), 1.0), (child, 1.0))) == []
    assert lineage(stack_of((combine_cat(two), 0.5), (child, 1.0))) == [
        "'cat' was made on top of 'banana' at strength 1, but its strength is 0.5 here.",
        "'cat' was made on top of 'frog' at strength 0.5, but its strength is 0.25 here.",
    ]


def test_lineage_survives_merging_without_the_parent():
    child = on_top_of(stack_of((A, 1.0)))
    merge = combine_cat(stack_of((child, 1.0), (B, 1.0)))
    assert [p.name for p in merge.info.parents] == ["banana"]
    assert "not on the stack" in lineage(stack_of((merge, 1.0)))[0]


# Words of the command line


@pytest.mark.parametrize(
    "text, path, strength",
    [
        ("x.safetensors", "x.safetensors", 1.0),
        ("x.safetensors:0.5", "x.safetensors", 0.5),
        ("folder with space/Grün.safetensors:-1", "folder with space/Grün.safetensors", -1.0),
        ("C:\\x.safetensors", "C:\\x.safetensors", 1.0),
        ("C:\\x.safetensors:0.5", "C:\\x.safetensors", 0.5),
        ("C:/x.safetensors:2", "C:/x.safetensors", 2.0),
        ("D:\\a.b\\x.SAFETENSORS", "D:\\a.b\\x.SAFETENSORS", 1.0),
        ("C:\\x.ckpt", "C:\\x.ckpt", 1.0),
        ("x.ckpt:0", "x.ckpt", 0.0),
        ("a:b.safetensors", "a:b.safetensors", 1.0),
    ],
)
def test_entries_are_parsed(text, path, strength):
    assert parse_entry(text) == (Path(path), strength)


@pytest.mark.parametrize("text", ["", " ", ":0.5", "x.safetensors:", "x.safetensors:much", "x.safetensors:nan", "x:3"])
def test_entries_that_make_no_sense(text):
    with pytest.raises(BadSetting):
        parse_entry(text)


def test_what_is_switched_off_has_not_been_forgotten():
    one, other = (
        Delta(d.factors, dataclasses.replace(d.info, prompts=((f"a {d.info.concept}", "a dog"),))) for d in (A, B)
    )
    stack = Stack().with_delta(one, 0.0).with_delta(other)
    left = Stack().with_delta(other)
    assert stack.concepts() == left.concepts() and stack.prompts() == left.prompts()
    assert stack.kinds() == left.kinds() and stack.anchors() == left.anchors() and stack.parents() == left.parents()
    assert len(stack) == 2


def test_a_model_is_in_one_session_at_a_time(net):
    second = to_itself(net)
    with to_itself(net), pytest.raises(UnlearnError, match="The model is at work"):
        second.__enter__()
    with to_itself(net), to_itself(a_net()):
        pass
