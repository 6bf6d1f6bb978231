"""Deltas as things to wire: load, put together, apply."""

from __future__ import annotations

from pathlib import Path

import folder_paths
import torch
from comfy_api.latest import io

from ..unlearn_core import BadDelta, Delta, Stack, UnlearnError, load
from ..unlearn_core.delta.stack import OtherBase, lineage
from ..unlearn_core.demo.recognition import CHECKPOINT
from ..unlearn_core.host import check_stack
from ..unlearn_core.untrusted import stamp
from .before_run import checkpoint_name, sent_nodes
from .host import ComfyHostModel
from .model_stack import stack_of, with_stack
from .save import FOLDER
from .schema import StackType, schema, strength

BUNDLED, BUNDLED_AS = CHECKPOINT.with_name("deltas"), "demo/"
"""Deltas of the demo model that come with the pack, and how their names begin in the list."""
SLOTS = 8
"""Deltas that one Stack Unlearning node takes."""


class LoadDelta(io.ComfyNode):
    """A delta from the loras folder as a stack of one."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs; the list is read anew when the page asks for it."""
        return schema(
            node_id="UnlearnLoadDelta",
            display_name="Load Delta",
            description="Reads a delta file from the loras folder.",
            inputs=[
                io.Combo.Input(
                    "delta",
                    display_name="Delta",
                    options=[*folder_paths.get_filename_list(FOLDER), *bundled()],
                    tooltip="A file in the loras folder, or one of the demo model's that come with the pack.",
                ),
                strength("strength"),
            ],
            outputs=[StackType.Output(display_name="stack", tooltip="For Stack Unlearning or Apply Unlearning.")],
        )

    @classmethod
    def fingerprint_inputs(cls, delta, strength) -> str:
        """Changes when the file does, and where its name comes by a link when any file in the loras folder does."""
        if delta is None:
            files = (folder_paths.get_full_path(FOLDER, name) for name in folder_paths.get_filename_list(FOLDER))
            return f"{strength} {[stamp(Path(file)) for file in files if file]}"
        file = delta_file(delta)
        return f"{delta} {strength} {Path(file).stat().st_mtime_ns if file else 0}"

    @classmethod
    def execute(cls, delta, strength) -> io.NodeOutput:
        """Read the file; raises `BadDelta` for anything that is not a sound delta."""
        return io.NodeOutput(Stack().with_delta(read(delta), strength))

    @classmethod
    def validate_inputs(cls, delta=None) -> bool | str:
        """Whether the file is there and sound, before anything runs; None where its name comes by a link."""
        try:
            return delta is None or bool(read(delta).factors)
        except UnlearnError as problem:
            return str(problem)


def bundled() -> dict[str, Path]:
    """{name in the list: file} of the demo model's deltas."""
    return {BUNDLED_AS + f.name: f for f in sorted(BUNDLED.glob("*.safetensors"))}


def read(name: str) -> Delta:
    """The delta behind a name in the list. Raises `BadDelta`."""
    file = delta_file(name)
    if file is None:
        raise BadDelta(f"There is no file '{name}' in the loras folder: choose one from the list.")
    with torch.inference_mode(False):
        return load(file)


def delta_file(name: str) -> str | Path | None:
    """The file behind a name in the list: in the loras folder, else a bundled one, else None."""
    return folder_paths.get_full_path(FOLDER, name) or bundled().get(name)


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
                strength(f"strength_{i}", f"Strength {i}", optional=True),
                io.Boolean.Input(
                    f"on_{i}",
                    display_name=f"On {i}",
                    default=True,
                    optional=True,
                    tooltip="Off leaves this one out.",
                ),
            ]
        return schema(
            node_id="UnlearnStack",
            display_name="Stack Unlearning",
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
        return schema(
            node_id="UnlearnApply",
            display_name="Apply Unlearning",
            description="Makes a MODEL forget what the deltas of a stack are for. Nothing is made anew.",
            inputs=[
                io.Model.Input("model", tooltip="The checkpoint that the deltas were made for."),
                io.Clip.Input("clip", tooltip="Its text encoder."),
                StackType.Input("stack", tooltip="From Load Delta, Stack Unlearning or Forget Concept."),
                io.Boolean.Input(
                    "any_base",
                    display_name="Any base",
                    default=False,
                    tooltip="Also for another checkpoint than the deltas were made for. It may not work.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The MODEL with the stack on it."),
                StackType.Output(display_name="stack", tooltip="All deltas that are on it now."),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
        )

    @classmethod
    def execute(cls, model, clip, stack, any_base) -> io.NodeOutput:
        """Check that it fits and patch it in; raises `BadDelta` with a sentence when it does not."""
        with torch.inference_mode(False), torch.no_grad():
            host = ComfyHostModel(model, clip, title=checkpoint_name(sent_nodes(cls.hidden), cls.hidden.unique_id))
            if not any_base:
                check_base(stack, host)
            patched = with_stack(model, stack)
        return io.NodeOutput(patched, stack_of(patched))


def check_base(stack: Stack, host: ComfyHostModel) -> None:
    """Raise `BadDelta` where the stack was made for another MODEL."""
    try:
        check_stack(host, stack)
    except OtherBase as problem:
        raise OtherBase(f"{problem} To apply it all the same, switch on 'Any base'.") from None
