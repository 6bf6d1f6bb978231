"""A thin stand-in for what Automatic1111 calls `modules`: the tab can be laid out in it and a model be trained."""

import sys
import threading
import types
from contextlib import nullcontext
from importlib.machinery import ModuleSpec


class Conditioning(list):
    """Prompts, and the size of the picture they are for."""

    def __init__(self, prompts, width, height):
        super().__init__(prompts)
        self.width, self.height = width, height


def loader(shared):
    """What the host's `sd_models` does with checkpoints; `files` are known by title, `held` by file name.

    `reload_model_weights` leaves alone what is loaded already, wherever its weights are, and `sent` lists what was
    brought back to the device.
    """
    models = types.SimpleNamespace(files={}, held={}, sent=[], model_data=types.SimpleNamespace())

    def select_checkpoint():
        if not models.files:
            raise FileNotFoundError("No checkpoints found.")
        found = models.files.get(shared.opts.data["sd_model_checkpoint"])
        return found or next(iter(models.files.values()))

    def reload_model_weights(sd_model=None, info=None, forced_reload=False):
        info = info or select_checkpoint()
        if shared.sd_model is None or shared.sd_model.sd_checkpoint_info.filename != info.filename:
            shared.sd_model = models.held[info.filename]
        return shared.sd_model

    models.select_checkpoint, models.reload_model_weights = select_checkpoint, reload_model_weights
    models.send_model_to_device, models.apply_token_merging = models.sent.append, lambda *_: None
    return vars(models)


def moving(devices):
    """What the host's `lowvram` does with `--medvram`: one part of the model is on the device, the others are not."""

    def send_everything_to_cpu():
        if made.module_in_gpu is not None:
            made.module_in_gpu.to("cpu")
        made.module_in_gpu = None

    def send_me_to_gpu(module, _):
        if made.module_in_gpu is not module:
            send_everything_to_cpu()
            module.to(devices.device)
            made.module_in_gpu = module

    made = types.ModuleType("modules.lowvram")
    made.module_in_gpu = None
    made.send_everything_to_cpu, made.send_me_to_gpu = send_everything_to_cpu, send_me_to_gpu
    sys.modules[made.__name__] = made
    return made


def install_forge(kind):
    """Put the stand-in for what a relative of Forge adds into `sys.modules`. Gives the list of what was called.

    kind: "backend" (Forge, Forge Neo), "ldm_patched" (reForge, Forge Classic), or "neither" of what we know.
    """
    calls = []

    def module(name, **facts):
        made = types.ModuleType(name)
        made.__spec__ = ModuleSpec(name, None)
        made.__dict__.update(facts)
        sys.modules[name] = made
        return made

    def run_and_wait_result(function, *args):
        calls.append("in the main thread")
        return function(*args)

    memory = {
        "unload_all_models": lambda: calls.append("unloaded"),
        "soft_empty_cache": lambda: calls.append("emptied"),
        "get_torch_device": lambda: "cpu",
    }
    main_thread = module("modules_forge.main_thread", run_and_wait_result=run_and_wait_result)
    version = module("modules_forge.forge_version", version="0.0-stand-in")
    module("modules_forge", __path__=[], main_thread=main_thread, forge_version=version)
    if kind == "backend":
        module("backend", __path__=[], memory_management=module("backend.memory_management", **memory))
    elif kind == "ldm_patched":
        # Forge Classic has no such part
        del sys.modules["modules.lowvram"], sys.modules["modules"].lowvram
        inner = module("ldm_patched.modules.model_management", **memory)
        module("ldm_patched", __path__=[], modules=module("ldm_patched.modules", __path__=[], model_management=inner))
    return calls


def install(folder, calls):
    """Put the stand-in into `sys.modules`; `calls` collects what is registered, by name. Gives `modules.shared`."""

    def module(name, **facts):
        made = types.ModuleType(name)
        made.__dict__.update(facts)
        sys.modules[name] = made
        return made

    def collect(name):
        return lambda f: calls.setdefault(name, []).append(f)

    state = types.SimpleNamespace(interrupted=False, skipped=False, stopping_generation=False, job="")
    state.begin, state.end = lambda job="": setattr(state, "job", job), lambda: setattr(state, "job", "")
    options = types.SimpleNamespace(data={"sd_model_checkpoint": "demo"})
    shared = module("modules.shared", cmd_opts=types.SimpleNamespace(lora_dir=str(folder)), opts=options, state=state)
    shared.sd_model, shared.loaded_hypernetworks = None, []
    names = ("on_ui_tabs", "on_app_started", "on_after_component")
    devices = module("modules.devices", autocast=nullcontext, without_autocast=nullcontext, device="cpu")
    parts = {
        "shared": shared,
        "paths": module("modules.paths", data_path=str(folder)),
        "script_callbacks": module("modules.script_callbacks", **{n: collect(n) for n in names}),
        "call_queue": module("modules.call_queue", queue_lock=threading.Lock()),
        "devices": devices,
        "lowvram": moving(devices),
        "prompt_parser": module("modules.prompt_parser", SdConditioning=Conditioning),
        "sd_models": module("modules.sd_models", **loader(shared)),
        "sd_unet": module("modules.sd_unet", current_unet=None),
    }
    module("modules", __path__=[], **parts)
    return shared
