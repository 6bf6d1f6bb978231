"""The two flow demos in ComfyUI's own Qwen-Image class and in the benchmark's: the largest differences, as JSON.

Runs inside ComfyUI: python boot.py COMFYUI_FOLDER flow_parity.py --cpu
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path += [str(HERE), str(ROOT)]

import comfy.options  # noqa: E402

# ComfyUI reads its options when its modules are loaded
comfy.options.enable_args_parsing()

import torch  # noqa: E402
from our_pack import load_pack  # noqa: E402

PROMPTS = ["a flat banana", "", "an ink drawing of a cat"]


def largest(one, other) -> float:
    """The largest difference of two tensors."""
    return float((one - other).abs().max())


def seen(file: Path) -> dict:
    """What both make of the same prompts, latents and noise levels."""
    from the_pack.nodes.flow_demo import load_flow_demo
    from the_pack.nodes.host import ComfyHostModel
    from the_pack.nodes.model_stack import FACTS, BaseFacts
    from the_pack.unlearn_core import Stack
    from the_pack.unlearn_core.demo.recognition import CHECKPOINT

    from benchmarks.beds.host import FlowBed

    model, clip, vae = load_flow_demo(file, CHECKPOINT)
    model.set_attachments(FACTS, BaseFacts("qwenimage", 128))
    comfy, bench = ComfyHostModel(model, clip, vae), FlowBed(file)
    x, sigma = torch.randn(3, 4, 16, 16), torch.tensor([0.9, 0.5, 0.2])
    with comfy.session(Stack()), bench.session(Stack()):
        texts = [host.encode(PROMPTS) for host in (comfy, bench)]
        clean = comfy.denoise(x[:, :, None], sigma, texts[0])[:, :, 0], bench.denoise(x, sigma, texts[1])
    model.model.latent_format.latent_rgb_factors = None
    rough = comfy.rough(x[:, :, None])
    return {
        "rough": list(rough.shape) == [3, 3, 128, 128] and bool(((rough >= 0) & (rough <= 1)).all()),
        "fingerprint": comfy.fingerprint == bench.fingerprint,
        "levels": largest(comfy.sigmas, bench.sigmas),
        "tokens": largest(texts[0].tokens, texts[1].tokens),
        "clean": largest(*clean),
        "pictures": largest(comfy.decode(x[:, :, None]), bench.decode(x)),
    }


if __name__ == "__main__":
    load_pack()
    torch.manual_seed(0)
    files = ROOT / "assets" / "demo" / "flow.safetensors", ROOT / "benchmarks" / "beds" / "flow_t5.safetensors"
    with torch.inference_mode(False), torch.no_grad():
        print(json.dumps({file.stem: seen(file) for file in files}))
