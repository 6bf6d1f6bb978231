"""Workflows in the form that ComfyUI's API takes: {node id: {class_type, inputs}}, a link is [node id, output]."""

from __future__ import annotations


def node(kind: str, **inputs) -> dict:
    """One node."""
    return {"class_type": kind, "inputs": inputs}


def text_to_image(loader: dict, prompt: str = "a banana", side: int = 64, **sampling) -> dict:
    """Stock nodes from a loader of MODEL, CLIP and VAE (node "load") to a saved picture (node "save").

    sampling: inputs of the stock sampler in place of those below.
    """
    chosen = {"seed": 1, "steps": 2, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    links = {"positive": ["yes", 0], "negative": ["no", 0], "latent_image": ["empty", 0]}
    return {
        "load": loader,
        "yes": node("CLIPTextEncode", clip=["load", 1], text=prompt),
        "no": node("CLIPTextEncode", clip=["load", 1], text=""),
        "empty": node("EmptyLatentImage", width=side, height=side, batch_size=1),
        "sample": node("KSampler", model=["load", 0], **links, **{**chosen, **sampling}),
        "decode": node("VAEDecode", samples=["sample", 0], vae=["load", 2]),
        "save": node("SaveImage", images=["decode", 0], filename_prefix="test"),
    }


def checkpoint_loader(name: str) -> dict:
    """The stock loader of a checkpoint."""
    return node("CheckpointLoaderSimple", ckpt_name=name)
