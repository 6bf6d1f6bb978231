"""A thin stand-in for what Automatic1111 calls `modules`: the tab can be laid out in it and a model be trained."""

import sys
import threading
import types
from contextlib import nullcontext


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
    models = types.SimpleNamespace(files={}, held={}, sent=[])

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
    parts = {
        "shared": shared,
        "paths": module("modules.paths", data_path=str(folder)),
        "script_callbacks": module("modules.script_callbacks", **{n: collect(n) for n in names}),
        "call_queue": module("modules.call_queue", queue_lock=threading.Lock()),
        "devices": module("modules.devices", autocast=nullcontext, device="cpu"),
        "prompt_parser": module("modules.prompt_parser", SdConditioning=Conditioning),
        "sd_models": module("modules.sd_models", **loader(shared)),
        "sd_unet": module("modules.sd_unet", current_unet=None),
    }
    module("modules", __path__=[], **parts)
    return shared
