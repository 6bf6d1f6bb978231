"""Forget Concept: trains a delta on the loaded checkpoint and hands on the MODEL without the concept."""

from __future__ import annotations

import comfy.model_management as memory
import torch
from comfy_api.latest import io

from ..unlearn_core import forget
from ..unlearn_core.preview import grid
from . import cache
from .host import ComfyHostModel
from .pictures import comparison, drawn
from .progress import NodeProgress
from .schema import StackType, config_from, setting_inputs
from .schema import strength as strength_input
from .stacked import foreign, stack_of, with_delta


class ForgetConcept(io.ComfyNode):
    """The node; wired MODEL to MODEL, each one learns on top of those before it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="UnlearnForgetConcept",
            display_name="Forget Concept",
            category="unlearning",
            description="Trains a small LoRA that makes this checkpoint forget a thing or a style, and applies it. "
            "Wire MODEL into the next Forget Concept to forget one thing after another.",
            inputs=[
                io.Model.Input("model", tooltip="The checkpoint, or what an earlier Forget Concept gave."),
                io.Clip.Input("clip", tooltip="The checkpoint's text encoder."),
                *setting_inputs(),
                strength_input("strength"),
                io.Int.Input(
                    "resolution",
                    default=0,
                    min=0,
                    max=2048,
                    step=64,
                    tooltip="Side of the pictures that it learns on, in pixels; 0: the model's own.",
                ),
                io.Vae.Input("vae", optional=True, tooltip="For sharp before and after pictures; rough ones without."),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The checkpoint without the concept."),
                StackType.Output(display_name="stack", tooltip="All deltas on the MODEL, for Save Delta and others."),
                io.Image.Output(display_name="before and after", tooltip="First row before, second row after."),
                io.String.Output(display_name="report", tooltip="What was done and how well, in words."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, model, clip, strength=1.0, resolution=0, vae=None, **values) -> io.NodeOutput:
        """Train, or take the finished delta from the cache; raises the core's one-sentence errors."""
        config = config_from(values)
        with torch.inference_mode(False), torch.no_grad():
            host = ComfyHostModel(model, clip, vae, resolution)
            name = cache.key(host, model, config)
            found = cache.find(name)
            if found:
                delta, report = found
            else:
                memory.throw_exception_if_processing_interrupted()
                result = forget(host, config, stack_of(model), NodeProgress(host, cls.hidden.unique_id))
                delta, report = result.delta, result.report
                report["prompts"] = list(result.prompts)
                cache.keep(name, delta, report)
            patched = with_delta(model, delta, strength)
            hosts = host, ComfyHostModel(patched, clip, vae, resolution)
            before, after = (drawn(h, report["prompts"], config.seed, config.sampling_steps) for h in hosts)
        text = in_words(report, foreign(model), found is not None)
        picture = grid([before, after]).movedim(0, -1)[None]
        return io.NodeOutput(
            patched, stack_of(patched), picture, text, ui={**comparison(before, after), "text": (text,)}
        )


def in_words(report: dict, others: int, cached: bool) -> str:
    """The report as a person reads it. others: patches on the MODEL that are no deltas."""
    judge = report["judge"]
    lines = [
        f"{report['concept']} -> {report['anchor'] or 'nothing in its place'} ({report['why']})",
        f"{judge['verdict']}",
        *counted(judge),
        f"{report['way']}, {report['seconds']:.0f} s" + (" (from the cache)" if cached else ""),
    ]
    if report["teacher_stack"]:
        lines.append("on top of: " + ", ".join(report["teacher_stack"]))
    if others:
        lines.append(f"learned on the MODEL as it came, with other LoRAs on it ({others} patches)")
    return "\n".join(lines)


def counted(judge: dict) -> list[str]:
    """The judge's numbers in words; none where nobody looked."""
    if "forgotten_after" not in judge:
        return []
    return [
        f"read as the target: {1 - judge['forgotten_before']:.0%} of its pictures before, "
        f"{1 - judge['forgotten_after']:.0%} after",
        f"others read right: {judge['kept_before']:.0%} before, {judge['kept_after']:.0%} after",
    ]
