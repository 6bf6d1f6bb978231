"""Full-size networks by their recorded names and shapes, without weights; what the speed benchmark counts."""

import re

import pytest
import torch

from benchmarks import flops
from benchmarks.phases import phases
from benchmarks.sizes import UNETS
from benchmarks.speed import TALL
from tests.key_lists import fold, recorded, unfold
from tests.small import a_delta
from tests.test_forget import config
from tests.tiny import TinyHost
from unlearn_core import Stack, forget
from unlearn_core.cli.main import main
from unlearn_core.delta import layer_names as keys
from unlearn_core.evaluate.evaluator import Exam
from unlearn_core.standalone.checkpoint import OPEN_CLIP, TEXT, UNET, VAE, XL_OPEN_CLIP, XL_TEXT, describe
from unlearn_core.standalone.networks import unet_settings

TEXTS = {"sd15": (TEXT,), "sd21": (OPEN_CLIP,), "sdxl": (XL_TEXT, XL_OPEN_CLIP)}
ARCHITECTURES = {"sd15": "sd1", "sd21": "sd2", "sdxl": "sdxl"}
PARAMETERS = {"sd15": 859_520_964, "sd21": 865_910_724, "sdxl": 2_567_463_684}
"""As published with the models."""
PUBLISHED = {
    "sd15": {"attention_head_dim": [8] * 4, "cross_attention_dim": 768, "use_linear_projection": False},
    "sd21": {"attention_head_dim": [5, 10, 20, 20], "cross_attention_dim": 1024, "use_linear_projection": True},
    "sdxl": {
        "attention_head_dim": [5, 10, 20],
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "transformer_layers_per_block": [1, 2, 10],
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}
"""From the `config.json` of each model's UNet."""
SIZES = pytest.mark.parametrize("size", PARAMETERS)


def on_meta(settings):
    """diffusers' UNet, names and shapes only."""
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        return UNet2DConditionModel.from_config(settings)


def as_file(size):
    """A full-size file's denoiser without its numbers, and of the rest what tells the architecture."""
    tensors = {UNET + name: torch.empty(shape, device="meta") for name, shape in recorded(size).items()}
    marks = [VAE + "post_quant_conv.weight", *(t + "any.weight" for t in TEXTS[size])]
    tensors |= {name: torch.zeros(1) for name in marks}
    if size == "sdxl":
        tensors[XL_OPEN_CLIP + "text_projection"] = torch.empty(1280, 1280, device="meta")
    bias = UNET + "output_blocks.11.1.transformer_blocks.0.norm1.bias"
    return tensors | ({bias: torch.zeros(320)} if bias in tensors else {})


def test_a_list_is_read_as_it_was_written():
    shapes = {"a.0.w": (1, 2), "a.0.b": (1,), "a.1.w": (1, 2), "a.1.b": (1,), "a.3.w": (1, 2), "b": (7,), "c.d.e": (3,)}
    assert unfold(fold(shapes)) == shapes
    assert fold(shapes).splitlines()[:3] == ["a", " 0-1", "  b 1"]


@SIZES
def test_a_full_size_file_is_recognised_and_built_with_all_its_tensors(size):
    shapes, tensors = recorded(size), as_file(size)
    assert sum(torch.Size(s).numel() for s in shapes.values()) == PARAMETERS[size]
    facts = describe(tensors, "x.safetensors", {})
    assert facts.architecture == ARCHITECTURES[size]
    settings = unet_settings(tensors, facts)
    assert {k: settings[k] for k in PUBLISHED[size]} == PUBLISHED[size]
    unet = on_meta(settings)
    assert {keys.diffusers_to_ldm(name, facts.shape): tuple(t.shape) for name, t in unet.state_dict().items()} == shapes


@SIZES
def test_names_of_a_full_size_file_translate_both_ways(size):
    shape = keys.UNetShape.from_state_dict(recorded(size))
    for name in recorded(size):
        assert keys.diffusers_to_ldm(keys.ldm_to_diffusers(name, shape), shape) == name
    written = [
        keys.delta_name(n.removesuffix(".weight"), ARCHITECTURES[size], shape)
        for n, s in recorded(size).items()
        if n.endswith("weight") and len(s) == 2
    ]
    assert len(set(written)) == len(written)


@pytest.mark.parametrize("size", UNETS)
def test_the_benchmarks_networks_have_the_published_size(size):
    unet = on_meta(UNETS[size])
    assert sum(p.numel() for p in unet.parameters()) == PARAMETERS[size]


def test_operations_of_a_product_and_of_attention():
    layer, x = torch.nn.Linear(16, 8, bias=False), torch.randn(4, 16, requires_grad=True)
    assert flops.counted(lambda: layer(x)) == 2 * 4 * 16 * 8
    assert flops.counted(lambda: layer(x).sum().backward()) == 3 * 2 * 4 * 16 * 8
    q = torch.randn(1, 2, 5, 8)
    with torch.no_grad():
        assert flops.counted(lambda: torch.nn.functional.scaled_dot_product_attention(q, q, q)) == 2 * 2 * 2 * 5 * 5 * 8


def tall(height):
    """A stack of tiny deltas for the tiny host."""
    host, stack = TinyHost(), Stack()
    for i in range(height):
        name = "diffusion_model.blocks.0.attn2.to_k"
        delta = a_delta(f"thing {i}", i, names=("x",), architecture="tiny", base_fingerprint=host.fingerprint)
        factor = next(iter(delta.factors.values()))
        wide = type(factor)(factor.down.repeat(1, 2), factor.up.repeat(2, 1), factor.alpha)
        stack = stack.with_delta(type(delta)({name: wide}, delta.info))
    return stack


def operations_of_a_step(height):
    """What each further training step on a stack adds to a run."""
    short, longer = (
        flops.counted(lambda: forget(TinyHost(), config(steps=n, anchor="pear"), tall(height)))  # noqa: B023
        for n in (2, 4)
    )
    return (longer - short) / 2


def test_a_step_costs_the_same_on_a_stack_of_twenty():
    one, twenty = operations_of_a_step(1), operations_of_a_step(20)
    assert one > 0 and twenty == one


def test_all_time_of_a_run_is_booked(monkeypatch):
    # the closed form is tried and not enough, so that there is time of every kind
    monkeypatch.setattr(Exam, "still_drawn", lambda *_: True)
    seconds, steps = phases(TinyHost(), config(closed_form=True))
    assert steps == 6 and set(seconds) == {"sampling", "choosing", "editing", "training", "judging", "preview"}
    assert all(t > 0 for t in seconds.values())


@pytest.mark.slow
def test_the_speed_command_tells_time_work_and_memory(capsys, monkeypatch):
    # the judge is asked after each step, as in a run of many
    for name in ("CHECK_FROM", "CHECK_EVERY", "SETTLE"):
        monkeypatch.setattr(f"unlearn_core.train.{name}", 1)
    options = ["--device", "cpu", "--set", "batch=1", "--set", "steps=4", "--resolution", "64"]
    assert main(["benchmark", "--speed", *options]) == 0
    told = dict(re.split(r"  +", line, maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert float(told["seconds per step"]) >= float(told["bare passes"]) * 0.5 > 0
    assert told["pictures"] == "64 x 64" and "1 forget + 1 replay" in told["batch"]
    assert float(told["operations"].split()[0]) > 0 and "MB" in told["memory"]
    assert f"on a stack of {TALL}" in told
