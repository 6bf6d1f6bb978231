"""Sessions on a device to which ComfyUI brings weights, and from which it takes them, as a card has it.

Runs inside ComfyUI: python boot.py COMFYUI_FOLDER small_card.py FOLDER --cpu
ComfyUI moves nothing and makes no room on "cpu", but on "cpu:0" it does. Prints as its last line {"passes": see
`passes`, "run": see `trained`, "sound": see `sound`}.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import comfy.options

# ComfyUI reads its options when its modules are loaded
FOLDER = Path(sys.argv.pop(1))
comfy.options.enable_args_parsing()
# behind ComfyUI's own folder, which has modules of the same names
sys.path.append(str(Path(__file__).resolve().parent))

import comfy.model_management as memory  # noqa: E402
import torch  # noqa: E402
from families import load_pack  # noqa: E402

CARD = torch.device("cpu:0")
SIDE = 64
TRAINED = {"concept": "apple", "anchor": "dog", "closed_form": False, "steps": 3, "batch": 2, "sampling_steps": 2}


def on_a_card(loaded: tuple) -> tuple:
    """What the demo's loader gives, on a device on which ComfyUI makes room."""
    model, clip, vae = loaded
    for patcher in (model, clip.patcher, vae.patcher):
        patcher.load_device = CARD
    vae.device = CARD
    return model, clip, vae


def passes(model, clip, vae) -> dict[str, bool]:
    """{what came before a pass in the same session: whether it gives the same as the first one}."""
    from the_pack.nodes.host import ComfyHostModel

    host, found = ComfyHostModel(model, clip, vae, SIDE), {}
    work = {"pictures": lambda: host.decode(torch.zeros(1, *host.latent_shape)), "prompts": lambda: host.encode(["ox"])}
    with torch.inference_mode(False), torch.no_grad(), host.session(host.stack):
        text, sigma = host.encode(["a photo of a cat"]), host.sigmas[len(host.sigmas) // 2].expand(1)
        x = torch.randn(1, *host.latent_shape, generator=torch.Generator().manual_seed(1)) * sigma
        answer = host.denoise(x, sigma, text)
        for name, asked in work.items():
            asked()
            found[name] = torch.equal(host.denoise(x, sigma, text), answer)
    return found


def state(model) -> dict[str, torch.Tensor]:
    """All numbers of a denoiser, without patches."""
    memory.unload_all_models()
    return {n: t.clone() for n, t in model.model.diffusion_model.state_dict().items()}


def trained(model, clip, vae) -> list:
    """[hash of the delta, whether the MODEL is the same afterwards] of a run that trains."""
    from the_pack.nodes.host import ComfyHostModel
    from the_pack.unlearn_core import ForgetConfig, forget

    before = state(model)
    with torch.inference_mode(False), torch.no_grad():
        host = ComfyHostModel(model, clip, vae, SIDE)
        made = forget(host, ForgetConfig(**TRAINED, force=True), host.stack).delta
    after = state(model)
    return [made.content_hash(), all(torch.equal(t, after[n]) for n, t in before.items())]


def sound(*networks) -> bool:
    """Whether layers still take their weights: none was made in inference mode and then moved outside of it."""
    for weight in (p for network in networks for p in network.parameters()):
        try:
            weight.is_inference() or weight._version
        except RuntimeError:
            return False
    return True


def main() -> None:
    """Look at all of it, as the executor runs nodes."""
    import folder_paths
    from the_pack.nodes.demo_model import load_demo
    from the_pack.nodes.model_stack import with_delta
    from the_pack.unlearn_core import load, recipe
    from the_pack.unlearn_core.demo.recognition import CHECKPOINT

    folder_paths.set_user_directory(str(FOLDER))
    recipe.DEFAULT.update(recipe.SMALL)
    with torch.inference_mode():
        model, clip, vae = on_a_card(load_demo(Path(CHECKPOINT)))
        model = with_delta(model, load(CHECKPOINT.with_name("deltas") / "forget_banana.safetensors"))
        seen = {"passes": passes(model, clip, vae), "run": trained(model, clip, vae)}
        seen["sound"] = sound(model.model, clip.cond_stage_model, vae.first_stage_model)
    print(json.dumps(seen))


if __name__ == "__main__":
    load_pack()
    main()
