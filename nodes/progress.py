"""A running job as ComfyUI shows it: its progress bar and preview, and events for the drawing on the node."""

from __future__ import annotations

import logging
import time

import comfy.model_management as memory
import comfy.utils
import torch
from PIL import Image
from server import PromptServer
from torch import Tensor

from ..unlearn_core import StepReport
from .host import ComfyHostModel
from .pictures import as_image

EVENT, NOTE = "unlearn.progress", "unlearn.note"
PARTS = 10_000
PREVIEW_SIDE = 512
PREVIEW_PICTURES = 4
"""Pictures side by side in a preview."""


class NodeProgress:
    """Progress of one node: the core's run first, then drawing pictures.

    run_share: part of the node's time that the core's run takes, 0..1; 0 where there is no run.
    part: (number, count) of several runs of one node, which share its bar.
    Its calls raise ComfyUI's own exception after an interrupt.
    """

    def __init__(self, host: ComfyHostModel, node_id: str, run_share: float, part: tuple[int, int] = (0, 1)):
        self._host, self._node, self._run_share, self._part = host, node_id, run_share, part
        self._bar = comfy.utils.ProgressBar(PARTS, node_id=node_id)
        self._shown, self._picture = 0, None
        self._begun = time.monotonic()
        self._drawn = 0
        self.goes_on = False
        """Whether a run that is stopped leaves something with which the next one goes on."""

    def __call__(self, report: StepReport) -> None:
        """The core's callback."""
        memory.throw_exception_if_processing_interrupted()
        if report.latents is not None:
            try:
                self._picture = self.preview(report.latents)
            except Exception:
                # a preview is only an addition
                logging.exception("Unlearn: no preview")
        left = report.seconds_left
        if left is not None:
            left += (report.seconds + left) * (1 / self._run_share - 1)
        self._show(
            {
                "phase": report.phase,
                "fraction": report.fraction * self._run_share,
                "seconds": report.seconds,
                "seconds_left": left,
                "losses": report.losses,
                "message": report.message,
            }
        )

    def drawing(self, ticks: int) -> None:
        """One of `ticks` units of the drawing of pictures is done."""
        memory.throw_exception_if_processing_interrupted()
        self._drawn += 1
        # the pictures have to be decoded after the last tick
        self._phase("drawing", self._run_share + (1 - self._run_share) * self._drawn / (ticks + 1))

    def finished(self) -> None:
        """The run's share of the node is done."""
        self._phase("done", 1.0)

    def _phase(self, phase: str, fraction: float) -> None:
        seconds = time.monotonic() - self._begun
        left = seconds * (1 - fraction) / fraction
        message = "drawing the pictures" if phase == "drawing" else ""
        facts = {"seconds": seconds, "seconds_left": left, "losses": {}, "message": message}
        self._show({"phase": phase, "fraction": fraction, **facts})

    def _show(self, event: dict) -> None:
        number, count = self._part
        event["fraction"] = (number + event["fraction"]) / count
        if count > 1:
            event["seconds_left"] = None
        # a picture between two parts of the bar waits for the next one, so that the bar only ever grows
        if (now := round(PARTS * event["fraction"])) > self._shown:
            self._bar.update_absolute(now, PARTS, self._picture)
            self._shown, self._picture = now, None
        send({"node": self._node, "part": number, "goes_on": self.goes_on, **event})

    def preview(self, latents: Tensor) -> tuple[str, Image.Image, int]:
        """The rough picture of some latents in ComfyUI's form for previews."""
        row = torch.cat(list(self._host.rough(latents[:PREVIEW_PICTURES])), dim=2)
        return "JPEG", as_image(row), PREVIEW_SIDE


def tell(node_id: str, text: str) -> None:
    """Say on a node, before its work begins, how its request was understood; nothing where there is nothing to say."""
    if text:
        send({"node": node_id, "text": text}, NOTE)


def send(data: dict, event: str = EVENT) -> None:
    """An event to the page that queued the workflow; nothing where no server runs or no page waits for it.

    With the run's id: by then another workflow may be open in that page.
    """
    server = getattr(PromptServer, "instance", None)
    # without a page's id it would go to all of them
    if server is not None and server.client_id is not None:
        server.send_sync(event, {**data, "prompt_id": getattr(server, "last_prompt_id", None)}, server.client_id)
