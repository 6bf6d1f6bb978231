"""Load Demo Model: the bundled checkpoint, so that the first workflow runs with no download."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from ..unlearn_core.demo.recognition import CHECKPOINT
from .demo_model import load_demo
from .model_stack import FACTS, BaseFacts
from .schema import schema

SIDE = 128


class LoadDemoModel(io.ComfyNode):
    """MODEL, CLIP and VAE of the bundled checkpoint."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return schema(
            node_id="UnlearnLoadDemoModel",
            display_name="Load Demo Model",
            description="A tiny trained model of 24 objects in 4 styles (glossy, blob, flat, ink) that draws 128 px "
            "pictures in a second, also without a GPU. Prompts like: a flat banana.",
            inputs=[],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The denoiser."),
                io.Clip.Output(display_name="clip", tooltip="The text encoder."),
                io.Vae.Output(display_name="vae", tooltip="The autoencoder."),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        """Load it from the pack's own folder."""
        with torch.inference_mode(False), torch.no_grad():
            model, clip, vae = load_demo(CHECKPOINT)
        words = CHECKPOINT.with_suffix(".words.json")
        model.set_attachments(FACTS, BaseFacts("sd1", SIDE, str(words), CHECKPOINT.name))
        return io.NodeOutput(model, clip, vae)
