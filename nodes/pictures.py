"""Pictures of a MODEL, and how a node shows them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

import comfy.model_management as memory
import folder_paths
import torch
from comfy_api.latest import io
from PIL import Image
from torch import Tensor

from ..unlearn_core import UnlearnError
from ..unlearn_core.preview import grid, pictures
from ..unlearn_core.sampling import Sampler
from .captions import captioned
from .host import ComfyHostModel
from .schema import schema

MAX_PROMPTS = 64
"""Prompts of one Before / After."""
PER_SHEET = 6
"""Pictures in a row of the picture that a node hands on: a strip of more is too small to judge where it is shown."""
BATCH = 32
"""Pictures drawn at once."""
GUIDANCE = 5.0
"""Guidance scale of Before / After where the artist has set no other."""


class BeforeAfter(io.ComfyNode):
    """The same prompts and noise under two MODELs."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return schema(
            node_id="UnlearnBeforeAfter",
            display_name="Before / After",
            description="Draws the same prompts with the same noise by two MODELs: before, and after below it.",
            inputs=[
                io.Model.Input("before", tooltip="The MODEL as it was."),
                io.Model.Input("after", tooltip="The MODEL without the concept."),
                io.Clip.Input("clip", tooltip="The checkpoint's text encoder."),
                io.String.Input(
                    "prompts",
                    display_name="Prompts",
                    multiline=True,
                    default="",
                    tooltip="One prompt a line; each has its own place in the grid.",
                ),
                io.Int.Input(
                    "seed",
                    display_name="Seed",
                    default=0,
                    min=0,
                    max=2**32 - 1,
                    control_after_generate=False,
                    tooltip="Prompt i has noise i of this seed.",
                ),
                io.Int.Input(
                    "steps",
                    display_name="Steps",
                    default=20,
                    min=1,
                    max=200,
                    tooltip="Euler steps of a picture.",
                ),
                io.Float.Input(
                    "guidance",
                    display_name="Guidance",
                    default=GUIDANCE,
                    min=1.0,
                    max=30.0,
                    step=0.1,
                    tooltip="Guidance scale (CFG). Left at 5, Flux is drawn with 1, as it is meant to be.",
                ),
                io.Int.Input(
                    "resolution",
                    display_name="Resolution",
                    default=0,
                    min=0,
                    max=2048,
                    step=64,
                    tooltip="Side in pixels. 0: the model's own.",
                ),
                io.Vae.Input("vae", optional=True, tooltip="For sharp pictures; rough ones without."),
            ],
            outputs=[io.Image.Output(display_name="grid", tooltip="Before, and after below it.")],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, prompts=None) -> bool | str:
        """Whether there are prompts, before anything runs; None where they come by a link."""
        try:
            return prompts is None or bool(prompts_in(prompts))
        except UnlearnError as problem:
            return str(problem)

    @classmethod
    def execute(cls, before, after, clip, prompts, seed, steps, guidance, resolution, vae=None) -> io.NodeOutput:
        """Draw both rows; raises `UnlearnError` without prompts or with more than `MAX_PROMPTS`."""
        lines = prompts_in(prompts)
        hosts = [ComfyHostModel(m, clip, vae, resolution) for m in (before, after)]
        own = hosts[0].guidance
        scale = guidance if own is None or guidance != GUIDANCE else own
        rows = [draw(h, lines, seed, steps, scale) for h in hosts]
        return io.NodeOutput(sheet([(lines, *rows)]), ui=comparison(lines, *rows))


def prompts_in(text: str) -> list[str]:
    """The prompts of a text, a line each. Raises `UnlearnError` for none or too many."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not 0 < len(lines) <= MAX_PROMPTS:
        raise UnlearnError(f"Write one prompt a line, 1 to {MAX_PROMPTS} of them.")
    return lines


def draw(
    host: ComfyHostModel,
    prompts: Sequence[str],
    seed: int,
    steps: int,
    guidance: float,
    tick: Callable[[], None] = memory.throw_exception_if_processing_interrupted,
) -> Tensor:
    """One picture a prompt by a MODEL with all that is on it, `[prompts, 3, H, W]` in 0..1.

    tick: called after each step of each `BATCH` of pictures.
    """
    with torch.inference_mode(False), torch.no_grad():
        return pictures(Sampler(host, steps, guidance, tick, batch=BATCH), host.stack, prompts, seed)


def sheet(groups: Sequence[tuple[Sequence[str], Tensor, Tensor]]) -> Tensor:
    """Pictures (prompts, before, after) as one IMAGE `[1, H, W, 3]`: `PER_SHEET` in a row, after below before."""
    rows = []
    for prompts, *pair in groups:
        for at in range(0, len(prompts), PER_SHEET):
            part = slice(at, at + PER_SHEET)
            for when, shown in zip(("before", "after"), pair, strict=True):
                rows.append(captioned(shown[part], [f"{when}: {p}" for p in prompts[part]]))
    return grid(rows).movedim(0, -1)[None]


def comparison(prompts: Sequence[str], before: Tensor, after: Tensor) -> dict[str, list]:
    """What a node's slider lays over one another: files of the pictures `[n, 3, H, W]`, and their prompts."""
    files = {f"unlearn_{name}": [*map(temporary_file, rows)] for name, rows in (("before", before), ("after", after))}
    return {**files, "unlearn_prompts": [*prompts]}


def temporary_file(image: Tensor) -> dict[str, str]:
    """Write `[3, H, W]` in 0..1 as a temporary PNG and give the address that ComfyUI's /view takes."""
    folder = Path(folder_paths.get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    name = f"unlearn_{secrets.token_hex(8)}.png"
    as_image(image).save(folder / name)
    return {"filename": name, "subfolder": "", "type": "temp"}


def as_image(image: Tensor) -> Image.Image:
    """`[3, H, W]` in 0..1 as a PIL image."""
    return Image.fromarray((image * 255).round().byte().movedim(0, -1).contiguous().cpu().numpy())
