"""Load Demo Model: a bundled model, so that the first workflow runs with no download."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from ..unlearn_core.demo.recognition import CHECKPOINT
from .demo_model import load_demo
from .flow_demo import load_flow_demo
from .model_stack import FACTS, BaseFacts
from .schema import schema

SIDE = 128
FLOW = CHECKPOINT.with_name("flow.safetensors")
UNET, TRANSFORMER = "UNet, as Stable Diffusion", "flow transformer, as Qwen-Image"


class LoadDemoModel(io.ComfyNode):
    """MODEL, CLIP and VAE of a bundled model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return schema(
            node_id="UnlearnLoadDemoModel",
            display_name="Load Demo Model",
            description="A tiny trained model of 24 objects in 4 styles (glossy, blob, flat, ink) that draws 128 px "
            "pictures in a second, also without a GPU. Prompts like: a flat banana.",
            inputs=[
                io.Combo.Input(
                    "kind",
                    display_name="Demo model",
                    options=[UNET, TRANSFORMER],
                    default=UNET,
                    optional=True,
                    tooltip="Both have learned the same drawings. The flow transformer is built as the models of today "
                    "are, where all text enters by one layer.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="What draws the pictures."),
                io.Clip.Output(display_name="clip", tooltip="What reads the prompts."),
                io.Vae.Output(display_name="vae", tooltip="What turns the result into pixels."),
            ],
        )

    @classmethod
    def execute(cls, kind=UNET) -> io.NodeOutput:
        """Load it from the pack's own folder."""
        words = str(CHECKPOINT.with_suffix(".words.json"))
        with torch.inference_mode(False), torch.no_grad():
            if kind == TRANSFORMER:
                model, clip, vae = load_flow_demo(FLOW, CHECKPOINT)
                facts = BaseFacts("qwenimage", SIDE, words, FLOW.name)
            else:
                model, clip, vae = load_demo(CHECKPOINT)
                facts = BaseFacts("sd1", SIDE, words, CHECKPOINT.name)
        model.set_attachments(FACTS, facts)
        return io.NodeOutput(model, clip, vae)
