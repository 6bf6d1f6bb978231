"""Sessions on a device to which ComfyUI brings weights, and from which it takes them, as a card has it.

Runs inside ComfyUI: python boot.py COMFYUI_FOLDER small_card.py FOLDER --cpu
ComfyUI moves nothing and makes no room on "cpu", but on "cpu:0" it does. Prints as its last line {"passes": {how it
makes room: see `passes`}, "runs": {how it makes room: see `trained`}, "sound": see `sound`}.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import comfy.options

# ComfyUI reads its options when its modules are loaded
FOLDER = Path(sys.argv.pop(1))
comfy.options.enable_args_parsing()
# behind ComfyUI's own folder, which has modules of the same names
sys.path.append(str(Path(__file__).resolve().parent))

import comfy.model_management as memory  # noqa: E402
import torch  # noqa: E402
from our_pack import load_pack  # noqa: E402

CARD = torch.device("cpu:0")
SIDE = 64
LACKING = 4 * 2**20
"""Bytes."""
TRAINED = {"concept": "apple", "anchor": "dog", "closed_form": False, "steps": 3, "batch": 2, "sampling_steps": 2}


@contextmanager
def changed(name: str, value) -> Iterator[None]:
    """ComfyUI's memory management with another function or flag, for the length of a block."""
    before = getattr(memory, name)
    setattr(memory, name, value)
    try:
        yield
    finally:
        setattr(memory, name, before)


def none_needed():
    """There is room for all of it."""
    return changed("DISABLE_SMART_MEMORY", False)


def as_a_whole():
    """Nothing stays on the card that is not asked for at the moment, as with --disable-smart-memory."""
    return changed("DISABLE_SMART_MEMORY", True)


def in_part():
    """Whatever comes next lacks a few megabytes."""
    free = memory.minimum_inference_memory() - LACKING
    return changed("get_free_memory", lambda device=None, torch_free_too=False: (free, 0) if torch_free_too else free)


WAYS = {"no room needed": none_needed, "as a whole": as_a_whole, "in part": in_part}


def on_a_card(loaded: tuple) -> tuple:
    """What the demo's loader gives, on a device on which ComfyUI makes room."""
    model, clip, vae = loaded
    memory.unload_all_models()
    for patcher in (model, clip.patcher, vae.patcher):
        patcher.load_device = CARD
    vae.device = CARD
    return model, clip, vae


def there(model) -> float:
    """The part of a MODEL that ComfyUI has on its device."""
    held = any(m.model is model for m in memory.current_loaded_models)
    return model.loaded_size() / model.model_size() if held else 0.0


def passes(way, model, clip, vae) -> dict[str, list]:
    """{what room is made for: [part of the MODEL that is there after it, and after the next pass, whether that pass
    gives the same as before]}."""
    from the_pack.nodes.host import ComfyHostModel

    host, found = ComfyHostModel(model, clip, vae, SIDE), {}
    work = {"pictures": lambda: host.decode(torch.zeros(1, *host.latent_shape)), "prompts": lambda: host.encode(["ox"])}
    with torch.inference_mode(False), torch.no_grad(), host.session(host.stack):
        text, sigma = host.encode(["a photo of a cat"]), host.sigmas[len(host.sigmas) // 2].expand(1)
        x = torch.randn(1, *host.latent_shape, generator=torch.Generator().manual_seed(1)) * sigma
        answer = host.denoise(x, sigma, text)
        for name, asked in work.items():
            with way():
                asked()
            left = there(model)
            same = torch.equal(host.denoise(x, sigma, text), answer)
            found[name] = [left, there(model), same]
    return found


def state(model) -> dict[str, torch.Tensor]:
    """All numbers of a denoiser, without patches."""
    memory.free_memory(1e30, CARD)
    return {n: t.clone() for n, t in model.model.diffusion_model.state_dict().items()}


def trained(way, model, clip, vae) -> list:
    """[hash of the delta, whether the MODEL is the same afterwards] of a run that trains."""
    from the_pack.nodes.host import ComfyHostModel
    from the_pack.unlearn_core import ForgetConfig, forget

    before = state(model)
    with torch.inference_mode(False), torch.no_grad(), way():
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
        parts = model, clip, vae
        seen = {"passes": {name: passes(way, *parts) for name, way in WAYS.items()}}
        seen["runs"] = {name: trained(way, *parts) for name, way in WAYS.items()}
        seen["sound"] = sound(model.model, clip.cond_stage_model, vae.first_stage_model)
    print(json.dumps(seen))


if __name__ == "__main__":
    load_pack()
    main()
