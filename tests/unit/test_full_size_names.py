"""Full-size networks by their recorded names and shapes, without weights."""

import pytest
import torch

from tests.key_lists import fold, recorded, unfold
from unlearn_core.delta import layer_names as keys
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
