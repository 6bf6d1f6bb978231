"""Deltas as things to wire: load, save, put together, apply."""

from __future__ import annotations

from pathlib import Path

import folder_paths
import torch
from comfy_api.latest import io

from ..unlearn_core import BadDelta, Delta, Stack, load, save
from ..unlearn_core.delta.paths import contained, safe_file_name
from ..unlearn_core.delta.stack import check_fits, lineage
from ..unlearn_core.demo.recognition import CHECKPOINT
from ..unlearn_core.words.compare import same_thing
from .host import ComfyHostModel
from .model_stack import stack_of, with_stack
from .pictures import as_image
from .schema import StackType, strength

FOLDER = "loras"
BUNDLED, BUNDLED_AS = CHECKPOINT.with_name("deltas"), "demo/"
"""Deltas of the demo model that come with the pack, and how their names begin in the list."""
SLOTS = 8
"""Deltas that one Stack Unlearning node takes."""


class LoadDelta(io.ComfyNode):
    """A delta from the loras folder as a stack of one."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs; the list is read anew when the page asks for it."""
        return io.Schema(
            node_id="UnlearnLoadDelta",
            display_name="Load Delta",
            category="unlearning",
            description="Reads a delta file from the loras folder.",
            inputs=[
                io.Combo.Input(
                    "delta",
                    options=[*folder_paths.get_filename_list(FOLDER), *bundled()],
                    tooltip="A file in the loras folder, or one of the demo model's that come with the pack.",
                ),
                strength("strength"),
            ],
            outputs=[StackType.Output(display_name="stack", tooltip="For Stack Unlearning or Apply Unlearning.")],
        )

    @classmethod
    def fingerprint_inputs(cls, delta, strength) -> str:
        """Changes when the file does."""
        file = delta_file(delta)
        return f"{delta} {strength} {Path(file).stat().st_mtime_ns if file else 0}"

    @classmethod
    def execute(cls, delta, strength) -> io.NodeOutput:
        """Read the file; raises `BadDelta` for anything that is not a sound delta."""
        file = delta_file(delta)
        if file is None:
            raise BadDelta(f"There is no file '{delta}' in the loras folder.")
        with torch.inference_mode(False):
            return io.NodeOutput(Stack().with_delta(load(file), strength))


def bundled() -> dict[str, Path]:
    """{name in the list: file} of the demo model's deltas."""
    return {BUNDLED_AS + f.name: f for f in sorted(BUNDLED.glob("*.safetensors"))}


def delta_file(name: str) -> str | Path | None:
    """The file behind a name in the list: in the loras folder, else a bundled one, else None."""
    return folder_paths.get_full_path(FOLDER, name) or bundled().get(name)


class SaveDelta(io.ComfyNode):
    """What the last Forget Concept has made into the loras folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="UnlearnSaveDelta",
            display_name="Save Delta",
            category="unlearning",
            description="Writes what the last Forget Concept has made into the loras folder, where every LoRA loader "
            "finds it: one file a concept.",
            inputs=[
                StackType.Input("stack", tooltip="From Forget Concept."),
                io.String.Input("name", default="", tooltip="File name without ending; empty: the concept's name."),
                io.Image.Input("picture", optional=True, tooltip="Saved beside it as its preview picture."),
            ],
            outputs=[io.String.Output(display_name="file", tooltip="The name for a LoRA loader.")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, stack, name, picture=None) -> io.NodeOutput:
        """Write it; an existing file of other contents is never replaced, a number is added to the name."""
        if not len(stack):
            raise BadDelta("The stack is empty: there is nothing to save.")
        folder = folder_paths.get_folder_paths(FOLDER)[0]
        made, names = of_one_wish(stack), []
        for delta in made:
            wish = name.strip() or f"forget {delta.info.concept}"
            stem = wish if len(made) == 1 or not name.strip() else f"{wish} {delta.info.concept}"
            file = free_name(folder, safe_file_name(stem), delta)
            with torch.inference_mode(False):
                save(delta.named(file.stem), file)
                if picture is not None:
                    as_image(picture[0].movedim(-1, 0).clamp(0, 1)).save(file.with_suffix(".preview.png"))
            names.append(file.name)
        return io.NodeOutput(names[-1], ui={"text": tuple(f"saved as {n}" for n in names)})


def of_one_wish(stack: Stack) -> list[Delta]:
    """The newest delta, and before it those of the same wish, which say that its concept was to go next."""
    *earlier, newest = (entry.delta for entry in stack)

    def same_wish(delta: Delta) -> bool:
        going = delta.info.config.get("going")
        return isinstance(going, list) and any(same_thing(newest.info.concept, str(c)) for c in going)

    return [*filter(same_wish, earlier), newest]


def free_name(folder: str, stem: str, delta: Delta) -> Path:
    """A name in `folder` that is free or holds this very delta."""
    number = 1
    while True:
        file = contained(folder, f"{stem}{'' if number == 1 else f'_{number}'}.safetensors")
        if not file.exists():
            return file
        try:
            if load(file).content_hash() == delta.content_hash():
                return file
        except BadDelta:
            pass
        number += 1


class StackUnlearning(io.ComfyNode):
    """Several stacks as one, each with a strength and a switch, in the order of the slots."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        inputs = []
        for i in range(1, SLOTS + 1):
            inputs += [
                StackType.Input(
                    f"stack_{i}", optional=True, tooltip="Lowest first: the order in which they were made."
                ),
                strength(f"strength_{i}", optional=True),
                io.Boolean.Input(f"on_{i}", default=True, optional=True, tooltip="Off leaves this one out."),
            ]
        return io.Schema(
            node_id="UnlearnStack",
            display_name="Stack Unlearning",
            category="unlearning",
            description="Puts deltas together; the order of the slots is the order of the stack.",
            inputs=inputs,
            outputs=[
                StackType.Output(display_name="stack", tooltip="All that are switched on."),
                io.String.Output(display_name="lineage", tooltip="Where the stack differs from how it was made."),
            ],
        )

    @classmethod
    def execute(cls, **slots) -> io.NodeOutput:
        """Join the slots; raises `BadDelta` when one delta comes twice."""
        joined = Stack()
        for i in range(1, SLOTS + 1):
            if slots.get(f"stack_{i}") is not None and slots.get(f"on_{i}", True):
                for entry in slots[f"stack_{i}"]:
                    joined = joined.with_delta(entry.delta, entry.strength * slots.get(f"strength_{i}", 1.0))
        words = "\n".join(lineage(joined)) or "The stack is as it was made."
        return io.NodeOutput(joined, words, ui={"text": (words,)})


class ApplyUnlearning(io.ComfyNode):
    """A stack onto a MODEL."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="UnlearnApply",
            display_name="Apply Unlearning",
            category="unlearning",
            description="Makes a MODEL forget what the deltas of a stack are for. Nothing is made anew.",
            inputs=[
                io.Model.Input("model", tooltip="The checkpoint that the deltas were made for."),
                io.Clip.Input("clip", tooltip="Its text encoder."),
                StackType.Input("stack", tooltip="From Load Delta, Stack Unlearning or Forget Concept."),
                io.Boolean.Input(
                    "any_base",
                    default=False,
                    tooltip="Also for another checkpoint than the deltas were made for. It may not work.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The MODEL with the stack on it."),
                StackType.Output(display_name="stack", tooltip="All deltas that are on it now."),
            ],
        )

    @classmethod
    def execute(cls, model, clip, stack, any_base) -> io.NodeOutput:
        """Check that it fits and patch it in; raises `BadDelta` with a sentence when it does not."""
        with torch.inference_mode(False), torch.no_grad():
            host = ComfyHostModel(model, clip)
            if not any_base:
                check_fits(stack, host.fingerprint, host.architecture, host.layers())
            patched = with_stack(model, stack)
        return io.NodeOutput(patched, stack_of(patched))
