"""Delta files in other programs' hands: diffusers' loader, and A1111's rules for names (its `Lora/networks.py`)."""

import re

import pytest
import torch

from tests.checkpoints import SHAPES, Small
from tests.deltas import an_info
from unlearn_core import keys
from unlearn_core.delta import Delta, Factor, tensors
from unlearn_core.sampling import direction, noise
from unlearn_core.stack import Stack
from unlearn_core.standalone import StandaloneModel

KINDS = ("sd1", "sd2", "sdxl")


@pytest.fixture(scope="module", params=KINDS)
def host(request, tmp_path_factory):
    file = Small(request.param).write(tmp_path_factory.mktemp("small") / "a.safetensors")
    return StandaloneModel(file, resolution=64)


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


def test_diffusers_loads_every_key_and_draws_the_same(host):
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

    delta, c = whole_delta(host), host.encode(["a photo of a cat"])
    x, sigma = noise((1, *host.latent_shape), 0, host.device), host.sigmas[[400]]
    with torch.no_grad():
        plain = direction(host, x, sigma, c)
        with host.session(Stack().with_delta(delta)):
            ours = direction(host, x, sigma, c)
    pipeline = StableDiffusionXLPipeline if host.architecture == "sdxl" else StableDiffusionPipeline
    state, alphas = pipeline.lora_state_dict(tensors(delta), unet_config=host.backbone.config)[:2]
    assert len(state) == 2 * len(delta.factors)
    pipeline.load_lora_into_unet(state, network_alphas=alphas, unet=host.backbone)
    try:
        with torch.no_grad():
            theirs = direction(host, x, sigma, c)
    finally:
        host.backbone.delete_adapters(list(host.backbone.peft_config))
        host.backbone.unload_lora()
    assert (ours - plain).abs().max() > 1e-2
    assert torch.allclose(ours, theirs, atol=1e-4)


def a1111_name(key: str) -> str:
    """`convert_diffusers_name_to_compvis`, as far as attention goes."""
    if m := re.match(r"lora_unet_down_blocks_(\d+)_attentions_(\d+)_(.+)", key):
        return f"diffusion_model_input_blocks_{1 + int(m[1]) * 3 + int(m[2])}_1_{m[3]}"
    if m := re.match(r"lora_unet_mid_block_attentions_(\d+)_(.+)", key):
        return f"diffusion_model_middle_block_1_{m[2]}"
    if m := re.match(r"lora_unet_up_blocks_(\d+)_attentions_(\d+)_(.+)", key):
        return f"diffusion_model_output_blocks_{int(m[1]) * 3 + int(m[2])}_1_{m[3]}"
    return key.replace("lora_unet", "diffusion_model")


def test_a1111_finds_every_layer(host):
    modules = {
        "diffusion_model_" + keys.diffusers_to_ldm(path, SHAPES[host.architecture]).replace(".", "_")
        for path, module in host.backbone.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    found = [a1111_name(key.split(".", 1)[0]) for key in tensors(whole_delta(host))]
    assert set(found) <= modules and len(set(found)) == len(whole_delta(host).factors)
