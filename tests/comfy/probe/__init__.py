"""A node pack for the tests: loads tiny checkpoints fast, says what is in a MODEL to the bit, breaks on purpose."""

import dataclasses
import hashlib
import json
import sys
from types import SimpleNamespace

import comfy.model_detection
import comfy.model_management
import comfy.sd
import folder_paths
import torch
from aiohttp import web
from server import PromptServer

import nodes

LAYERS = 3
"""Of each text encoder: the last but one is read, and most of a run's time would go into the others."""
own_recipes = {}
"""{core's recipe module: the recipes of each kind that it came with}."""
ENCODERS = ("", "clip_l", "clip_h", "clip_g")
HEAD = 128


@PromptServer.instance.routes.post("/probe/small")
async def small(request):
    """Runs of all packs' cores with few pictures from now on, or with their own number again.

    The request's JSON: null for their own recipes, else values that differ from the recipes for tests.
    """
    changes = await request.json()
    cores = [m for n, m in list(sys.modules.items()) if n.endswith(".unlearn_core.recipe")]
    for core in cores:
        recipes = own_recipes.setdefault(core, dict(core.DEFAULT))
        if changes is not None:
            recipes = {kind: dataclasses.replace(recipe, **changes) for kind, recipe in core.SMALL.items()}
        core.DEFAULT.update(recipes)
    return web.json_response(len(cores))


class ProbeLoader:
    """ComfyUI's own checkpoint loading with short text encoders, and a word list of few words beside it."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"ckpt_name": ("STRING", {}), "words_file": ("STRING", {})}}

    RETURN_TYPES, FUNCTION, CATEGORY = ("MODEL", "CLIP", "VAE"), "load", "probe"

    def load(self, ckpt_name, words_file):
        short = {f"{name}_model_config": {"num_hidden_layers": LAYERS} for name in ENCODERS}
        detect = comfy.model_detection.detect_unet_config

        def narrow(*args, **kwargs):
            config = detect(*args, **kwargs)
            if config and config.get("image_model") == "flux":
                # older versions take the number of heads of the real one
                config["num_heads"] = config["hidden_size"] // HEAD
            return config

        comfy.model_detection.detect_unet_config = narrow
        try:
            file = folder_paths.get_full_path("checkpoints", ckpt_name)
            model, clip, vae = comfy.sd.load_checkpoint_guess_config(file, te_model_options=short)[:3]
        finally:
            comfy.model_detection.detect_unet_config = detect
        for layer in clip.cond_stage_model.modules() if clip else ():
            if hasattr(layer, "self_attn") and hasattr(layer, "mlp"):
                layer.mlp = torch.nn.Identity()  # two thirds of what a word costs
        # older versions leave gradients on, and switch them off on each weight that a LoRA has been on
        model.model.requires_grad_(False)
        facts = SimpleNamespace(architecture="", resolution=0, words_file=words_file or None, title="")
        model.set_attachments("unlearn_facts", facts)
        return model, clip, vae


class ProbeModel:
    """Everything about a MODEL's network that training could have changed, as JSON.

    patched: with the MODEL's LoRA patches in its weights, or without any.
    """

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "patched": ("BOOLEAN", {})}, "optional": {"after": ("*",)}}

    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = ("MODEL",), "look", "probe", True

    @classmethod
    def IS_CHANGED(cls, **_):
        return float("nan")

    def look(self, model, patched, after=None):
        comfy.model_management.unload_all_models()
        if patched:
            comfy.model_management.load_models_gpu([model], force_full_load=True)
        network = model.model
        digest = hashlib.sha256()
        for name, tensor in sorted(network.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
            digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
        modules = list(network.named_modules())
        seen = {
            "weights": digest.hexdigest(),
            "modules": hashlib.sha256("".join(f"{n} {type(m)}" for n, m in modules).encode()).hexdigest(),
            "training": sum(m.training for _, m in modules),
            "hooks": sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for _, m in modules),
            "own forwards": sum("forward" in vars(m) for _, m in modules),
            "requires_grad": sum(p.requires_grad for p in network.parameters()),
            "in_training": bool(getattr(comfy.model_management, "in_training", False)),
        }
        if patched:
            comfy.model_management.unload_all_models()
        return {"ui": {"text": [json.dumps(seen)]}, "result": (model,)}


class ProbeBreak:
    """A MODEL whose network raises at a call of its own."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "at": ("INT", {})}}

    RETURN_TYPES, FUNCTION, CATEGORY = ("MODEL",), "break_it", "probe"

    def break_it(self, model, at):
        calls = 0

        def call(apply_model, args):
            nonlocal calls
            calls += 1
            if calls >= at:
                raise RuntimeError(f"broken on purpose at call {calls}")
            return apply_model(args["input"], args["timestep"], **args["c"])

        model = model.clone()
        model.set_model_unet_function_wrapper(call)
        return (model,)


class ProbeNaN:
    """A MODEL whose network gives no numbers from a call of its own on."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "at": ("INT", {})}}

    RETURN_TYPES, FUNCTION, CATEGORY = ("MODEL",), "spoil", "probe"

    def spoil(self, model, at):
        calls = 0

        def call(apply_model, args):
            nonlocal calls
            calls += 1
            out = apply_model(args["input"], args["timestep"], **args["c"])
            return out * float("nan") if calls >= at else out

        model = model.clone()
        model.set_model_unet_function_wrapper(call)
        return (model,)


class ProbeTexts:
    """Many captions, a line each, as one CONDITIONING: the stock sampler draws row i of a batch for caption i."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"clip": ("CLIP",), "captions": ("STRING", {"multiline": True})}}

    RETURN_TYPES, FUNCTION, CATEGORY = ("CONDITIONING",), "encode", "probe"

    def encode(self, clip, captions):
        rows = [nodes.CLIPTextEncode().encode(clip, caption)[0][0] for caption in captions.splitlines()]
        return ([[torch.cat([tokens for tokens, _ in rows]), rows[0][1]]],)


NODE_CLASS_MAPPINGS = {c.__name__: c for c in (ProbeLoader, ProbeModel, ProbeBreak, ProbeNaN, ProbeTexts)}
