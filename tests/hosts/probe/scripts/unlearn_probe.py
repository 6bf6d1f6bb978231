"""For tests only: an extension of the web UI that tells a hash of the loaded model's weights.

Link the folder above `scripts` into the web UI's `extensions/` before `check_webui.py` is run.
"""

import hashlib

import torch
from modules import script_callbacks, shared
from modules.call_queue import queue_lock


def networks() -> list:
    """The loaded model's networks; Forge keeps them apart."""
    objects = getattr(shared.sd_model, "forge_objects_original", None)
    if objects is None:
        return [shared.sd_model]
    return [objects.unet.model.diffusion_model, objects.clip.cond_stage_model, objects.vae.first_stage_model]


def weights() -> dict:
    """SHA-256 of all tensors of the model, behind the host's queue, so that nothing is in the middle of a change."""
    digest = hashlib.sha256()
    with queue_lock, torch.no_grad():
        for name, value in (row for network in networks() for row in network.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return {"sha256": digest.hexdigest()}


script_callbacks.on_app_started(lambda _, app: app.add_api_route("/unlearn_probe/weights", weights, methods=["GET"]))
