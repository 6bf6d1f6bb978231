"""Delta files in other programs' hands: diffusers' loader, and A1111's rules for names (its `Lora/networks.py`)."""

import re

import pytest
import torch

from tests.checkpoints import SHAPES, Small
from tests.deltas import an_info
from tests.key_lists import recorded
from unlearn_core.delta import layer_names as keys
from unlearn_core.delta.format import Delta, Factor, save, tensors
from unlearn_core.delta.stack import Stack
from unlearn_core.demo.recognition import CHECKPOINT
from unlearn_core.sampling import direction, noise
from unlearn_core.standalone.model import StandaloneModel

KINDS = ("sd1", "sd2", "sdxl")


@pytest.fixture(scope="module", params=KINDS)
def host(request, tmp_path_factory):
    file = Small(request.param).write(tmp_path_factory.mktemp("small") / "a.safetensors")
    return StandaloneModel(file, resolution=64, half=False)


def whole_delta(host) -> Delta:
    """A delta of all attention layers."""
    generator = torch.Generator().manual_seed(0)
    first = {path: name for name, path in reversed(host.layers().items()) if ".attn" in path}
    factors = {}
    for path, name in first.items():
        out, inside = host.backbone.get_submodule(path).weight.shape
        down, up = (torch.randn(s, generator=generator) * 0.1 for s in ((4, inside), (out, 4)))
        factors[name] = Factor(down, up, 4.0)
    info = an_info(architecture=host.architecture, base_fingerprint=host.fingerprint)
    return Delta(factors, info).rounded()


def pipeline_of(host):
    """The host's networks as diffusers' own pipeline."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline

    parts = {"unet": host.backbone, "vae": host.vae, "scheduler": EulerDiscreteScheduler()}
    for suffix, e in zip(("", "_2"), host.encoders, strict=False):
        parts |= {f"text_encoder{suffix}": e.model, f"tokenizer{suffix}": e.tokenizer}
    if host.architecture == "sdxl":
        return StableDiffusionXLPipeline(**parts)
    return StableDiffusionPipeline(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)


def test_diffusers_loads_every_key_and_draws_the_same(host, tmp_path):
    delta, c = whole_delta(host), host.encode(["a photo of a cat"])
    save(delta, tmp_path / "forget.safetensors")
    x, sigma = noise((1, *host.latent_shape), 0, host.device), host.sigmas[[400]]
    with torch.no_grad():
        plain = direction(host, x, sigma, c)
        with host.session(Stack().with_delta(delta)):
            ours = direction(host, x, sigma, c)
    pipeline = pipeline_of(host)
    pipeline.load_lora_weights(str(tmp_path), weight_name="forget.safetensors")
    try:
        filled = {n for n, m in host.backbone.named_modules() if hasattr(m, "lora_A")}
        with torch.no_grad():
            theirs = direction(host, x, sigma, c)
    finally:
        pipeline.unload_lora_weights()
    assert filled == {host.layers()[name] for name in delta.factors}
    assert (ours - plain).abs().max() > 1e-2
    assert torch.allclose(ours, theirs, atol=1e-4, rtol=0)
    with torch.no_grad():
        assert torch.equal(direction(host, x, sigma, c), plain)


def test_diffusers_is_told_the_network_of_one_layer_a_block(tmp_path):
    """Its loader counts two layers a block in LDM names, unless it is given the configuration (see delta-format.md)."""
    host = StandaloneModel(CHECKPOINT, half=False)
    assert host.shape.layers_per_block == 1
    delta = whole_delta(host)
    save(delta, tmp_path / "forget.safetensors")
    pipeline = pipeline_of(host)
    pipeline.load_lora_weights(str(tmp_path), weight_name="forget.safetensors", unet_config=host.backbone.config)
    try:
        filled = {n for n, m in host.backbone.named_modules() if hasattr(m, "lora_A")}
    finally:
        pipeline.unload_lora_weights()
    assert filled == {host.layers()[name] for name in delta.factors}


RESNET = {"conv1": "in_layers_2", "conv2": "out_layers_3", "time_emb_proj": "emb_layers_1"}
A1111 = (
    (r"time_embedding_linear_(\d+)(.*)", lambda m: f"time_embed_{int(m[1]) * 2 - 2}{m[2]}"),
    (
        r"down_blocks_(\d+)_(attentions|resnets)_(\d+)_(.+)",
        lambda m: f"input_blocks_{1 + int(m[1]) * 3 + int(m[3])}_{int(m[2] == 'attentions')}_{suffix(m[2], m[4])}",
    ),
    (
        r"mid_block_(attentions|resnets)_(\d+)_(.+)",
        lambda m: f"middle_block_{1 if m[1] == 'attentions' else int(m[2]) * 2}_{suffix(m[1], m[3])}",
    ),
    (
        r"up_blocks_(\d+)_(attentions|resnets)_(\d+)_(.+)",
        lambda m: f"output_blocks_{int(m[1]) * 3 + int(m[3])}_{int(m[2] == 'attentions')}_{suffix(m[2], m[4])}",
    ),
)
"""Its function `convert_diffusers_name_to_compvis` as far as matrices of the UNet go."""


def suffix(part: str, name: str) -> str:
    """The name of a layer inside a block; only residual blocks rename theirs."""
    return RESNET.get(name, name) if part == "resnets" else name


def a1111_module(key: str, modules: set[str]) -> str | None:
    """What `load_network` puts a key's factors on: the converted name, then the plain one; None: the key is lost.

    key: of a tensor in the file, all before the first dot counts. modules: names in the loaded network.
    """
    name = key.partition(".")[0]
    converted = name
    for pattern, rewrite in A1111:
        # anchored at the front alone, and the first that fits decides
        if m := re.match("lora_unet_" + pattern, name):
            converted = "diffusion_model_" + rewrite(m)
            break
    plain = name.replace("lora_unet", "diffusion_model")
    return next((n for n in (converted, plain) if n in modules), None)


def test_a1111_finds_every_layer(host):
    modules = {
        "diffusion_model_" + keys.diffusers_to_ldm(path, SHAPES[host.architecture]).replace(".", "_")
        for path, module in host.backbone.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    delta = whole_delta(host)
    found = [a1111_module(key, modules) for key in tensors(delta)]
    assert None not in found and len(set(found)) == len(delta.factors)


@pytest.mark.parametrize("size, architecture", [("sd15", "sd1"), ("sd21", "sd2"), ("sdxl", "sdxl")])
def test_a1111_finds_every_matrix_of_a_full_size_model_where_it_is(size, architecture):
    shapes = recorded(size)
    shape = keys.UNetShape.from_state_dict(shapes)
    modules = {"diffusion_model_" + n.rpartition(".")[0].replace(".", "_") for n in shapes}
    layers = [n.removesuffix(".weight") for n, s in shapes.items() if n.endswith(".weight") and len(s) == 2]
    assert len(layers) > 150
    for layer in layers:
        wanted = "diffusion_model_" + layer.replace(".", "_")
        assert a1111_module(keys.delta_name(layer, architecture, shape) + ".lora_up.weight", modules) == wanted
