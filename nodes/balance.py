"""Balance Stack: one delta in place of a long stack, each concept led only as far as it takes."""

from __future__ import annotations

import comfy.model_management as memory
import torch
from comfy_api.latest import io

from ..unlearn_core import BadSetting, Stack
from ..unlearn_core.method.balance import balance
from .before_run import checkpoint_name, sent_nodes
from .host import ComfyHostModel
from .model_stack import stack_of, with_delta
from .progress import NodeProgress
from .schema import StackType, schema


class BalanceStack(io.ComfyNode):
    """Many deltas in, one out, and the MODEL with it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return schema(
            node_id="UnlearnBalance",
            display_name="Balance Stack",
            description="Makes one delta in place of a long stack, which changes less of everything else. Pictures of "
            "all its concepts are drawn and looked at, so it takes minutes. Worth it from about fifty deltas on.",
            inputs=[
                io.Model.Input("model", tooltip="The checkpoint as it was loaded, without any delta."),
                io.Clip.Input("clip", tooltip="Its text encoder."),
                StackType.Input("stack", tooltip="The deltas: from Stack Unlearning or the last Forget Concept."),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The checkpoint with the new delta on it."),
                StackType.Output(display_name="stack", tooltip="The new delta alone, for Save Delta."),
                io.String.Output(display_name="report", tooltip="What was done, in words."),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, model, clip, stack) -> io.NodeOutput:
        """Make it; raises the core's one-sentence errors before any work where a stack cannot be balanced."""
        if len(stack_of(model)):
            raise BadSetting("Balance Stack: the MODEL has deltas on it already. Wire the one from the loader.")
        memory.throw_exception_if_processing_interrupted()
        with torch.inference_mode(False), torch.no_grad():
            key = cls.hidden.unique_id
            host = ComfyHostModel(model, clip, title=checkpoint_name(sent_nodes(cls.hidden), key))
            progress = NodeProgress(host, key, 1.0)
            made = balance(host, stack, progress)
            progress.finished()
            patched = with_delta(model, made.delta)
        text = "\n".join(filter(None, [told(stack), made.change, made.doubt]))
        return io.NodeOutput(patched, stack_of(patched), text, ui={"text": (text,)})


def told(stack: Stack) -> str:
    """What was put together, in words."""
    return f"One delta in place of {len(stack.active)}: {', '.join(stack.concepts())}."
