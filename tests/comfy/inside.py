"""Runs inside ComfyUI: what can be seen only from its own process.

usage: python boot.py COMFYUI_FOLDER inside.py FOLDER --cpu
Prints as its last line {"pictures": {prompt: [mean and largest difference, in 1/255, between ComfyUI's sampler on the
pack's demo loader and the standalone model; contrast]}, "types": number types in the demo's networks, "projection":
the text encoder's last matrix, "cache": file names that are left in a small cache, "limits": {text: limit in bytes},
"whole": see `whole`, "aliases": see `aliases`}.
"""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

# behind ComfyUI's own folder, which has modules of the same names
sys.path.append(str(Path(__file__).resolve().parent))

import comfy.options  # noqa: E402
import torch  # noqa: E402
from our_pack import load_pack  # noqa: E402

LIMIT = "UNLEARN_CACHE_MB"
PROMPTS = ("a flat banana", "a photo of a cat", "two frogs in ink style")
STEPS, GUIDANCE, SEED = 12, 3.0, 5


def main():
    """Look at all of it."""
    folder = Path(sys.argv.pop(1))
    comfy.options.enable_args_parsing()
    load_pack()
    from the_pack.nodes.demo_model import load_demo
    from the_pack.unlearn_core.demo.recognition import CHECKPOINT

    model, clip, vae = load_demo(Path(CHECKPOINT))
    networks = {"model": model.model, "clip": clip.cond_stage_model, "vae": vae.first_stage_model}
    report = {
        "pictures": compared(model, clip, vae, CHECKPOINT),
        "types": {name: sorted({str(p.dtype) for p in n.parameters()}) for name, n in networks.items()},
        "projection": networks["clip"].clip_l.transformer.text_projection.weight.tolist(),
        "cache": cached(folder),
        "limits": limits(),
        "whole": whole(CHECKPOINT),
        "aliases": aliases(),
    }
    print(json.dumps(report))


def whole(checkpoint):
    """Number types of a copy without dynamic VRAM, whose file is of half the precision that its layers are made for."""
    import comfy.utils
    from the_pack.nodes.demo_model import load_denoiser
    from the_pack.nodes.weights import not_paged

    weights = comfy.utils.load_torch_file(str(checkpoint))
    copy = load_denoiser(weights, 4)
    model = SimpleNamespace(is_dynamic=lambda: True, clone=lambda disable_dynamic: copy)
    assert not_paged(model) is copy
    return sorted({str(p.dtype) for p in copy.model.parameters()})


def aliases():
    """What is in a module's tables after a session in which ComfyUI replaced the second weight and moved the third."""
    from the_pack.nodes.loaded import Aliases

    with torch.inference_mode():
        layers = torch.nn.ModuleList(torch.nn.Linear(2, 2, bias=False) for _ in range(3)).requires_grad_(False)
    mine, other = [m.weight for m in layers], torch.nn.Parameter(torch.ones(2, 2))
    made = Aliases(layers)
    made.put()
    assert not any(m.weight.is_inference() for m in layers)
    layers[1].weight = other
    layers[2].to("meta")
    made.take_off()
    return [layers[0].weight is mine[0], layers[1].weight is other, layers[2].weight.device.type]


def compared(model, clip, vae, checkpoint):
    """Pictures of both samplers from the same noise, sigmas and guidance."""
    # Only now: it decides on its devices by the arguments when it is loaded.
    from comfy.sample import sample
    from the_pack.unlearn_core.sampling import Sampler, noise, schedule
    from the_pack.unlearn_core.standalone.model import StandaloneModel

    host = StandaloneModel(checkpoint, half=False)
    sigmas, start = schedule(host, STEPS), noise((1, *host.latent_shape), SEED, host.device)
    empty = clip.encode_from_tokens_scheduled(clip.tokenize(""))
    report = {}
    for prompt in PROMPTS:
        with torch.inference_mode():
            named = clip.encode_from_tokens_scheduled(clip.tokenize(prompt))
            blank = torch.zeros_like(start)
            settings = (STEPS, GUIDANCE, "euler", "normal", named, empty, blank)
            latents = sample(model, start, *settings, sigmas=sigmas, disable_pbar=True)
            theirs = vae.decode(latents).movedim(-1, 1).float().cpu()
        # ComfyUI starts at sqrt(1 + sigma^2) times the noise, the standalone sampler at sigma times it.
        same = start * (1 + sigmas[0] ** -2).sqrt()
        ours = host.decode(Sampler(host, STEPS, GUIDANCE).along(host.encode([prompt]), same, sigmas))
        off = (theirs - ours).abs() * 255
        report[prompt] = [off.mean().item(), off.max().item(), ours.std().item()]
    return report


def cached(folder):
    """Six deltas into a cache for three of them, the first one used again before the last is put in."""
    import folder_paths
    from the_pack.nodes import cache
    from the_pack.unlearn_core.delta.format import Delta, DeltaInfo, Factor

    folder_paths.set_user_directory(str(folder))
    facts = {"kind": "object", "anchor": "dog", "architecture": "sd1", "prediction_type": "epsilon"}
    info = DeltaInfo(concept="cat", base_fingerprint="0" * 16, **facts)
    factor = Factor(torch.randn(64, 256), torch.randn(256, 64), 64.0)
    left = []
    for number, limit in enumerate(("10", "10", "10", "10", "10", None, "0")):
        name = f"delta{number}"
        if limit is None:
            sizes = [f.stat().st_size for f in cache.folder().glob("*.safetensors")]
            limit = str(3.5 * max(sizes) / 2**20)
            for age, file in enumerate(sorted(cache.folder().glob("*.safetensors"), reverse=True)):
                os.utime(file, (1e9 - age, 1e9 - age))
            assert cache.read("delta0")[0].info.concept == "cat"
        os.environ[LIMIT] = limit
        cache.write(name, Delta({"lora_unet_a": factor}, info), {"number": number})
        left = sorted(f.name for f in cache.folder().iterdir())
    return left


def limits():
    """The cache's limit for some texts in its variable."""
    from the_pack.nodes.cache_size import limit

    found = {}
    for text in ("512MB", "", "nan", "inf", "0", "1.5"):
        os.environ[LIMIT] = text
        found[text] = limit()
    return found


main()
