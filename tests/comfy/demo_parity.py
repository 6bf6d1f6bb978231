"""Runs inside ComfyUI: draws with its sampler on the pack's own demo loader, and with the standalone model.

usage: python boot.py COMFYUI_FOLDER demo_parity.py --cpu
Prints {"prompt": [mean, largest difference of the two pictures in 1/255]} as its last line.
"""

import importlib.util
import json
import sys
from pathlib import Path

import comfy.options
import torch

ROOT = Path(__file__).resolve().parents[2]
PROMPTS = ("a flat banana", "a photo of a cat", "two frogs in ink style")
STEPS, GUIDANCE, SEED = 12, 3.0, 5


def load_pack():
    """The repository as ComfyUI loads it: a package under a name of its own."""
    spec = importlib.util.spec_from_file_location(
        "the_pack", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    sys.modules["the_pack"] = pack = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pack)


def main():
    """Compare all prompts."""
    comfy.options.enable_args_parsing()
    # Only now: it decides on its devices by the arguments when it is loaded.
    from comfy.sample import sample

    load_pack()
    from the_pack.nodes.demo_model import load_demo
    from the_pack.unlearn_core.demo import CHECKPOINT
    from the_pack.unlearn_core.sampling import euler, noise, schedule
    from the_pack.unlearn_core.standalone import StandaloneModel

    model, clip, vae = load_demo(Path(CHECKPOINT))
    host = StandaloneModel(CHECKPOINT, half=False)
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
        ours = host.decode(euler(host, host.encode([prompt]), same, sigmas, GUIDANCE, host.encode([""])))
        off = (theirs - ours).abs() * 255
        report[prompt] = [off.mean().item(), off.max().item(), ours.std().item()]
    print(json.dumps(report))


main()
