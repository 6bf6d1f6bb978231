"""A running job as ComfyUI shows it: its progress bar and preview, and events for the drawing on the node."""

from __future__ import annotations

import comfy.model_management as memory
import comfy.utils
import torch
from PIL import Image
from server import PromptServer
from torch import Tensor

from ..unlearn_core import StepReport
from .host import ComfyHostModel
from .pictures import as_image

EVENT = "unlearn.progress"
PARTS = 10_000
PREVIEW_SIDE = 512
SHOWN = 4
"""Pictures side by side in a preview."""


class NodeProgress:
    """The core's progress callback of one node. An interrupt raises ComfyUI's own exception out of the core."""

    def __init__(self, host: ComfyHostModel, node_id: str):
        self._host, self._node = host, node_id
        self._bar = comfy.utils.ProgressBar(PARTS, node_id=node_id)
        self._shown, self._picture = 0, None

    def __call__(self, report: StepReport) -> None:
        memory.throw_exception_if_processing_interrupted()
        if report.latents is not None:
            self._picture = self.preview(report.latents)
        # a picture between two parts of the bar waits for the next one, so that the bar only ever grows
        if (now := round(PARTS * report.fraction)) > self._shown:
            self._bar.update_absolute(now, PARTS, self._picture)
            self._shown, self._picture = now, None
        send(
            {
                "node": self._node,
                "phase": report.phase,
                "fraction": report.fraction,
                "seconds": report.seconds,
                "seconds_left": report.seconds_left,
                "losses": report.losses,
                "message": report.message,
            }
        )

    def preview(self, latents: Tensor) -> tuple[str, Image.Image, int]:
        """The rough picture of some latents in ComfyUI's form for previews."""
        row = torch.cat(list(self._host.rough(latents[:SHOWN])), dim=2)
        return "JPEG", as_image(row), PREVIEW_SIDE


def send(data: dict) -> None:
    """An event to the page that queued the workflow; nothing where no server runs."""
    server = getattr(PromptServer, "instance", None)
    if server is not None:
        server.send_sync(EVENT, data, server.client_id)
