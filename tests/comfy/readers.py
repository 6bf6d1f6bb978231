"""Runs inside ComfyUI: one delta file of each architecture in the hands of three programs.

usage: python boot.py COMFYUI_FOLDER readers.py FOLDER --cpu
Prints as its last line {architecture: {"layers": number that the delta names, "comfyui", "diffusers": number that each
of them has filled, "lost": what ComfyUI says of keys it does not know, "plain": largest difference of d between ComfyUI
and the core without the delta, "apart": the same with it, {program: difference}, "effect": what it changes}}.
"""

import importlib.util
import json
import logging
import sys
from pathlib import Path

import comfy.options
import torch

ROOT = Path(__file__).resolve().parents[2]
UNETS = {
    "sd1": ((1, 1), (1, 0), 1, (0, 0, 1, 1), 768),
    "sd2": ((1, 1), (1, 0), 1, (0, 0, 1, 1), 1024),
    "sdxl": ((2, 2, 2), (0, 0, 1, 1, 2, 2), 2, (2, 2, 2, 1, 1, 1, 0, 0, 0), 2048),
}
"""Arguments of `tiny_checkpoints.unet`."""
POOLED = 1280
SIDE = 64


def by_path(name, file):
    """A module or package from its file: ComfyUI has its own `tests` and `nodes`."""
    folder = [str(file.parent)] if file.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=folder)
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def denoiser(kind):
    """The tensors of a small denoiser as a checkpoint names them, in float32."""
    tiny = by_path("tiny_checkpoints", Path(__file__).with_name("tiny_checkpoints.py"))
    weights = tiny.Weights(0)
    tiny.unet(weights, *UNETS[kind], linear=kind != "sd1", labels=POOLED + 6 * 256 if kind == "sdxl" else None)
    return {name: t.float().contiguous() for name, t in weights.tensors.items()}


def standalone(tensors, kind):
    """The core's own model of them; the rest of a checkpoint is there by name only."""
    from the_pack.unlearn_core.delta.base_sample import Base
    from the_pack.unlearn_core.standalone import checkpoint, networks
    from the_pack.unlearn_core.standalone.model import StandaloneModel

    texts = {"sd1": (checkpoint.TEXT,), "sd2": (checkpoint.OPEN_CLIP,)}
    names = [checkpoint.VAE + "post_quant_conv.weight"]
    names += [t + "any.weight" for t in texts.get(kind, (checkpoint.XL_TEXT, checkpoint.XL_OPEN_CLIP))]
    whole = tensors | {name: torch.zeros(1) for name in names}
    whole[checkpoint.XL_OPEN_CLIP + "text_projection"] = torch.empty(POOLED, POOLED, device="meta")
    facts = checkpoint.describe(whole, "tiny.safetensors", {})
    settings = networks.unet_settings(whole, facts)
    unet = networks.build_unet(settings, networks.part(tensors, checkpoint.UNET), facts.shape, torch.float32)
    parts = networks.Networks(facts, Base("0" * 16), unet, torch.nn.Identity(), ())
    return StandaloneModel(parts, resolution=SIDE, half=False)


def a_delta(host):
    """A random delta of all attention layers."""
    from the_pack.unlearn_core.delta.format import Delta, DeltaInfo, Factor

    generator, factors = torch.Generator().manual_seed(0), {}
    for path, name in {p: n for n, p in reversed(host.layers().items()) if ".attn" in p}.items():
        out, inside = host.backbone.get_submodule(path).weight.shape
        down, up = (torch.randn(s, generator=generator) * 0.1 for s in ((4, inside), (out, 4)))
        factors[name] = Factor(down, up, 4.0)
    facts = {"architecture": host.architecture, "prediction_type": "epsilon", "base_fingerprint": host.fingerprint}
    return Delta(factors, DeltaInfo(concept="cat", kind="object", anchor="dog", **facts)).rounded()


class Comfy:
    """ComfyUI's own model of the same tensors, and of a delta file on it."""

    def __init__(self, tensors):
        import comfy.sd

        self.plain = comfy.sd.load_diffusion_model_state_dict(dict(tensors), model_options={"dtype": torch.float32})

    def loaded(self, file):
        """(the model with the file's LoRA, what its loader has to say of keys)."""
        import comfy.sd
        import comfy.utils

        said = []
        handler = logging.Handler()
        handler.emit = lambda record: said.append(record.getMessage())
        logging.getLogger().addHandler(handler)
        patched, _ = comfy.sd.load_lora_for_models(self.plain, None, comfy.utils.load_torch_file(str(file)), 1.0, 0.0)
        logging.getLogger().removeHandler(handler)
        return patched, [text for text in said if "loaded" in text.lower()]

    def direction(self, patcher, x, sigma, c):
        """d by ComfyUI's model alone."""
        import comfy.model_management

        comfy.model_management.load_models_gpu([patcher], force_full_load=True)
        patcher.pre_run()
        more = {}
        if "pooled" in c.extras:
            more["y"] = patcher.model.encode_adm(pooled_output=c.extras["pooled"], width=SIDE, height=SIDE)
        clean = patcher.model.apply_model(x, sigma, c_crossattn=c.tokens, **more)
        return (x - clean) / sigma.view(-1, 1, 1, 1)


def by_diffusers(host, file):
    """Load the file into the host's UNet with diffusers' loader; the number of layers that it has filled."""
    from diffusers.loaders import StableDiffusionLoraLoaderMixin, StableDiffusionXLLoraLoaderMixin

    xl = host.architecture == "sdxl"
    loader = StableDiffusionXLLoraLoaderMixin if xl else StableDiffusionLoraLoaderMixin
    folder, name = str(file.parent), file.name
    state, alphas = loader.lora_state_dict(folder, weight_name=name, unet_config=host.backbone.config)
    loader.load_lora_into_unet(state, network_alphas=alphas, unet=host.backbone)
    return sum(hasattr(m, "lora_A") for m in host.backbone.modules())


@torch.no_grad()
def compared(kind, folder):
    """One architecture's row of the report."""
    from the_pack.unlearn_core.delta.format import save
    from the_pack.unlearn_core.delta.stack import Stack
    from the_pack.unlearn_core.host import Conditioning
    from the_pack.unlearn_core.sampling import direction, noise

    tensors = denoiser(kind)
    host, comfy_model = standalone(tensors, kind), Comfy(tensors)
    delta, file = a_delta(host), folder / f"{kind}.safetensors"
    save(delta, file)
    sigma = host.sigmas[[100, 400, 800]]
    x = noise((len(sigma), *host.latent_shape), 0, host.device) * (1 + sigma.view(-1, 1, 1, 1))
    extras = {}
    if kind == "sdxl":
        size = torch.tensor([SIDE, SIDE, 0, 0, SIDE, SIDE]).float().expand(len(sigma), -1)
        extras = {"pooled": noise((len(sigma), POOLED), 2, host.device), "size": size}
    c = Conditioning(noise((len(sigma), 77, UNETS[kind][-1]), 1, host.device), extras)

    plain = direction(host, x, sigma, c)
    with host.session(Stack().with_delta(delta)):
        ours = direction(host, x, sigma, c)
    row = {"layers": len(delta.factors), "plain": apart(plain, comfy_model.direction(comfy_model.plain, x, sigma, c))}
    patched, row["lost"] = comfy_model.loaded(file)
    row["comfyui"] = len(patched.patches)
    theirs = {"comfyui": comfy_model.direction(patched, x, sigma, c)}
    row["diffusers"] = by_diffusers(host, file)
    theirs["diffusers"] = direction(host, x, sigma, c)
    row["apart"] = {name: apart(ours, d) for name, d in theirs.items()}
    return row | {"effect": apart(ours, plain)}


def apart(one, other):
    """The largest difference."""
    return (one - other).abs().max().item()


def main():
    """All architectures."""
    folder = Path(sys.argv.pop(1))
    comfy.options.enable_args_parsing()
    by_path("the_pack", ROOT / "__init__.py")
    print(json.dumps({kind: compared(kind, folder) for kind in UNETS}))


main()
