"""Forget Concept: makes a delta for the loaded checkpoint and hands on the MODEL without the concept."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import comfy.model_management as memory
import torch
from comfy_api.latest import io
from torch import Tensor

from ..unlearn_core import Delta, ForgetConfig
from ..unlearn_core.config import REQUEST
from ..unlearn_core.method.forget import forget_or_go_on, summary
from ..unlearn_core.preview import grid
from ..unlearn_core.saved_work import NoSavedWork
from . import cache
from .host import ComfyHostModel
from .model_stack import facts_of, other_patches, stack_of, with_delta
from .pictures import BATCH, comparison, draw
from .progress import NodeProgress
from .schema import SettingsType, StackType, requests_from, setting_inputs
from .schema import strength as strength_input

RUN_SHARE = {"read": 0.98, "checked": 0.9, "quick": 0.5, "cached": 0.0}
"""Part of the node's time that the core's run takes: where its own pictures are shown, where they are drawn again for
another strength, where it has drawn none, and where the delta comes from the cache."""


class ForgetConcept(io.ComfyNode):
    """The node; wired MODEL to MODEL, each one works on top of those before it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        *wish, seed = setting_inputs(REQUEST)
        return io.Schema(
            node_id="UnlearnForgetConcept",
            display_name="Forget Concept",
            category="unlearning",
            description="Makes a small LoRA with which this checkpoint forgets a thing or a style, and applies it. "
            "Wire MODEL into the next Forget Concept to forget one thing after another.",
            inputs=[
                io.Model.Input("model", tooltip="The checkpoint, or what an earlier Forget Concept gave."),
                io.Clip.Input("clip", tooltip="The checkpoint's text encoder."),
                *wish,
                strength_input("strength", optional=True),
                seed,
                io.Int.Input(
                    "resolution",
                    display_name="Resolution",
                    default=0,
                    min=0,
                    max=2048,
                    step=64,
                    tooltip="Side in pixels of the pictures that it works with. 0: the model's own.",
                    optional=True,
                ),
                io.Vae.Input("vae", optional=True, tooltip="For sharp before and after pictures; rough ones without."),
                SettingsType.Input(
                    "settings", optional=True, tooltip="From Forget Settings. Without it the usual values are used."
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The checkpoint without the concept."),
                StackType.Output(display_name="stack", tooltip="All deltas on the MODEL, for Save Delta and others."),
                io.Image.Output(display_name="before and after", tooltip="First row before, second row after."),
                io.String.Output(display_name="report", tooltip="What was done and how well, in words."),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
        )

    @classmethod
    def execute(cls, model, clip, strength=1.0, resolution=0, vae=None, settings=None, **values) -> io.NodeOutput:
        """Make a delta for each concept, or take it from the cache; raises the core's one-sentence errors."""
        wired = Wired(clip, vae, resolution, strength, cls.hidden.unique_id)
        with torch.inference_mode(False), torch.no_grad():
            wish, configs = requests_from(
                facts_of(model).words_file, stack_of(model), cls.as_sent(), settings or {}, values
            )
            done = []
            for number, config in enumerate(configs):
                done.append(wired.forget(done[-1].model if done else model, config, (number, len(configs))))
            text = "\n\n".join(filter(None, [wish.note, *(d.text for d in done)]))
            before, after = (torch.cat(rows) for rows in zip(*(d.pictures for d in done), strict=True))
            picture = grid([row for d in done for row in d.pictures]).movedim(0, -1)[None]
            shown = {**comparison(before, after), "text": (text,)}
        patched = done[-1].model
        return io.NodeOutput(patched, stack_of(patched), picture, text, ui=shown)

    @classmethod
    def as_sent(cls) -> dict[str, Any]:
        """This node's inputs in the workflow as it was sent: ComfyUI hands on only those that the node has today."""
        sent = cls.hidden.dynprompt.get_node(cls.hidden.unique_id)["inputs"] if cls.hidden.dynprompt else {}
        return {name: value for name, value in sent.items() if not isinstance(value, list)}


@dataclass(frozen=True)
class Forgotten:
    """One concept's outcome: the MODEL without it, pictures before and after `[n, 3, H, W]`, the report as a text."""

    model: Any
    pictures: tuple[Tensor, Tensor]
    text: str


@dataclass(frozen=True)
class Wired:
    """What is wired into the node and set on it, beside the MODEL and the request."""

    clip: Any
    vae: Any
    resolution: int
    strength: float
    node: str

    def host(self, model) -> ComfyHostModel:
        """A MODEL as the core sees it."""
        return ComfyHostModel(model, self.clip, self.vae, self.resolution)

    def forget(self, model, config: ForgetConfig, part: tuple[int, int]) -> Forgotten:
        """Make the delta, or take it from the cache, and apply it. part: (number, count) of the node's requests."""
        host = self.host(model)
        keys = cache.keys(host, model, config)
        found = cache.find(keys)
        progress = NodeProgress(host, self.node, RUN_SHARE[way(config, self.strength, found is not None)], part)
        pictures: list[Tensor | None] = [None, None]
        if found:
            delta, report = found
            # as a run of today would write it: what had no effect may have other values now
            delta = Delta(delta.factors, replace(delta.info, config=config.deciding()))
        else:
            memory.throw_exception_if_processing_interrupted()
            saved = cache.saved_work()
            delta, report, *pictures = made(host, config, model, (progress, saved))
            cache.store(keys, delta, report)
            saved.remove()
        patched = with_delta(model, delta, self.strength)
        if self.strength != 1.0 or None in pictures:
            pictures = both_drawn((host, self.host(patched)), report["prompts"], config, progress)
        text = as_text(report, other_patches(model), found is not None)
        progress.finished()
        return Forgotten(patched, tuple(pictures), text)


def way(config: ForgetConfig, strength: float, cached: bool) -> str:
    """Which of `RUN_SHARE` a request is."""
    if cached:
        return "cached"
    if not config.check:
        return "quick"
    return "read" if strength == 1.0 else "checked"


def made(
    host: ComfyHostModel, config: ForgetConfig, model, going: tuple[NodeProgress, NoSavedWork]
) -> tuple[Delta, dict, Tensor | None, Tensor | None]:
    """A run's delta, its report with the prompts of the pictures, and these before and after, where it drew any.

    going: who hears of its progress, and what an interrupted run of the same request has left.
    """
    result = forget_or_go_on(host, config, stack_of(model), *going)
    return result.delta, {**result.report, "prompts": list(result.prompts)}, result.before, result.after


def both_drawn(
    hosts: tuple[ComfyHostModel, ComfyHostModel], prompts: list[str], config: ForgetConfig, progress: NodeProgress
) -> list[Tensor]:
    """Pictures of the same prompts and noise by two MODELs."""
    ticks = len(hosts) * config.sampling_steps * math.ceil(len(prompts) / BATCH)
    tick = lambda: progress.drawing(ticks)  # noqa: E731
    return [draw(h, prompts, config.seed, config.sampling_steps, config.guidance, tick) for h in hosts]


def as_text(report: dict, others: int, cached: bool) -> str:
    """The report's rows, a line each. others: patches on the MODEL that are no deltas."""
    rows = summary(report)
    if cached:
        rows.append(("From the cache", "nothing was made anew"))
    if others:
        rows.append(("Other LoRAs on the MODEL", f"yes, {others} patches; the delta was made with them on"))
    return "\n".join(f"{label}: {value}" for label, value in rows)
