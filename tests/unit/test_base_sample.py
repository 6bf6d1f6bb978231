"""A checkpoint is known again with numbers of another type, and a fine-tune of it is not."""

import itertools
from dataclasses import replace

import pytest
import torch

from tests.deltas import a_delta
from unlearn_core import BadDelta, BadSetting, ForgetConfig, Stack
from unlearn_core.delta.base_sample import COUNT, Base, BaseSample
from unlearn_core.delta.format import Delta, load, save
from unlearn_core.delta.merge import check_one_base, combine_cat
from unlearn_core.delta.stack import OtherBase, check_fits
from unlearn_core.method.finished import finished

TYPES = (torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)


def weights(dtype=torch.float16, moved=0.0, layers=40):
    """A denoiser's matrices of a usual size; moved: by a fine-tune, as a part of their size."""
    draw = torch.Generator().manual_seed(0)
    found = {}
    for number in range(layers):
        matrix = torch.randn(48, 32, generator=draw) * 0.03
        change = torch.randn(48, 32, generator=draw) * 0.03
        found[f"blocks.{number}.weight"] = (matrix.half().float() + moved * change).to(dtype)
    return found


def sample(*args, **facts):
    return BaseSample.take(weights(*args, **facts))


@pytest.mark.parametrize("dtype", TYPES)
def test_a_rounded_load_of_a_checkpoint_is_the_same_checkpoint(dtype):
    whole, rounded = sample(), sample(dtype)
    assert whole.same(rounded) and rounded.same(whole)
    assert whole.same(BaseSample.read(rounded.text())) and BaseSample.read(whole.text()).same(rounded)


@pytest.mark.parametrize("dtype", TYPES[1:])
def test_bfloat16_may_lie_between(dtype):
    between = {n: t.bfloat16().to(dtype) for n, t in weights().items()}
    assert BaseSample.take(between).same(sample())
    assert BaseSample.take(between).same(sample(torch.bfloat16))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("moved", [0.01, 0.03, 0.1])
def test_a_fine_tune_is_another_checkpoint(dtype, moved):
    assert not sample().same(sample(dtype, moved=moved))
    assert not sample(dtype).same(sample(moved=moved))
    assert not sample(torch.bfloat16).same(sample(TYPES[1], moved=moved))


def test_scaled_float8_is_known_by_its_scale():
    whole, scales, file = weights(), {}, {}
    for name, t in whole.items():
        scales[name] = float(t.abs().max()) / 448
        file[name] = (t.float() / scales[name]).to(torch.float8_e4m3fn)
    made = BaseSample.take(file, scales)
    assert made.same(BaseSample.take(whole)) and not made.same(sample(moved=0.01))
    assert BaseSample.take(file, dict.fromkeys(scales)) is None, "a scale for each block"


def test_numbers_of_one_type_are_told_apart_by_the_fingerprint_alone():
    assert not sample().same(sample()) and not sample().same(sample(torch.float32))


def test_other_shapes_are_another_checkpoint_and_packed_ones_have_no_sample():
    assert not sample().same(sample(torch.bfloat16, layers=39))
    assert BaseSample.take({n: t.view(torch.uint8) for n, t in weights(TYPES[0]).items()}) is None
    assert BaseSample.take({"a.weight": torch.zeros(48, 32)}) is None, "nothing to know it by"
    assert len(sample().values) == COUNT // 40 * 40
    assert len(sample(layers=1500).values) == COUNT


def test_a_delta_fits_its_base_in_another_type_and_no_fine_tune(tmp_path):
    made = a_delta(base_sample=sample().text(), base_fingerprint="a" * 16)
    save(made, tmp_path / "d.safetensors")
    delta = load(tmp_path / "d.safetensors")
    stack, names = Stack().with_delta(delta), list(delta.factors)
    check_fits(stack, Base("b" * 16, sample(torch.bfloat16)), delta.info.architecture, names)
    for other in (Base("b" * 16, sample(torch.bfloat16, moved=0.05)), Base("b" * 16, sample()), "b" * 16):
        with pytest.raises(OtherBase, match="quantised"):
            check_fits(stack, other, delta.info.architecture, names)


def test_deltas_of_one_base_in_two_types_can_be_merged():
    facts = {"base_fingerprint": "b" * 16, "base_sample": sample(torch.bfloat16).text(), "merged": ()}
    first = a_delta(base_sample=sample().text(), base_fingerprint="a" * 16, merged=())
    check_one_base(Stack().with_delta(first).with_delta(a_delta(concept="ink", seed=2, **facts)))
    facts["base_sample"] = sample(torch.bfloat16, moved=0.05).text()
    with pytest.raises(BadDelta, match="only deltas for one base"):
        check_one_base(Stack().with_delta(first).with_delta(a_delta(concept="ink", seed=2, **facts)))


@pytest.mark.parametrize(
    "text", ["x", "a:b:c", "a" * 16 + ":float16:xy", "a" * 16 + ":float16:0000", "a" * 16 + ":float16:", "x" * 40000]
)
def test_a_sample_that_is_none_is_refused(text):
    with pytest.raises(BadDelta, match="sample"):
        a_delta(base_sample=text)


def based(dtype, sampled=True, concept="banana", moved=0.0):
    """A delta for the checkpoint with numbers of a type, with or without a sample of it."""
    known = Base.of(weights(dtype, moved=moved))
    text = known.sample.text() if sampled else ""
    name = f"{dtype}".rpartition(".")[2]
    facts = {"base_fingerprint": known.fingerprint, "base_sample": text, "base_name": name if sampled else ""}
    return a_delta(sum(map(ord, concept)), concept=concept, stopped="", merged=(), **facts)


def test_what_can_be_merged_does_not_depend_on_the_order():
    old = based(torch.float16, sampled=False)
    new, rounded = based(torch.float16, concept="cat"), based(torch.bfloat16, concept="dog")
    other = based(torch.float16, concept="frog", moved=0.05)
    for order in itertools.permutations((old, new, rounded)):
        stack = Stack()
        for delta in order:
            stack = stack.with_delta(delta)
        merge = combine_cat(stack)
        assert merge.info.base_sample and merge.info.base_name, [d.info.concept for d in order]
    for order in itertools.permutations((new, other, rounded)):
        stack = Stack()
        for delta in order:
            stack = stack.with_delta(delta)
        with pytest.raises(BadDelta, match="only deltas for one base can be combined"):
            combine_cat(stack)


def test_what_an_earlier_run_has_made_on_a_rounded_copy_is_finished(tmp_path):
    config = ForgetConfig("banana")
    made = based(torch.bfloat16)
    save(Delta(made.factors, replace(made.info, config=config.deciding())), tmp_path / "banana.safetensors")
    for dtype, moved, fits in ((torch.float16, 0.0, True), (torch.bfloat16, 0.0, True), (torch.float16, 0.05, False)):
        model = Base.of(weights(dtype, moved=moved)), "epsilon"
        if fits:
            assert finished(tmp_path / "banana.safetensors", config, model).info.concept == "banana"
        else:
            with pytest.raises(BadSetting, match="made by another request"):
                finished(tmp_path / "banana.safetensors", config, model)
