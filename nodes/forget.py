"""Forget Concept: makes a delta for the loaded checkpoint and hands on the MODEL without the concept."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import comfy.model_management as memory
import torch
from comfy_api.latest import io
from torch import Tensor

from ..unlearn_core import BadSetting, Delta, ForgetConfig, TrainingFailed
from ..unlearn_core.config import REQUEST
from ..unlearn_core.delta.stack import MAX_STRENGTH
from ..unlearn_core.method.attempts import unfinished
from ..unlearn_core.method.forget import broken_in, forget_or_go_on, harm_in, summary
from ..unlearn_core.method.request import at_own_guidance
from ..unlearn_core.saved_work import NOTHING
from ..unlearn_core.untrusted import stamp
from . import cache
from .before_run import about, checkpoint_name, literals, sent_nodes
from .captions import message
from .host import ComfyHostModel
from .model_stack import facts_of, other_patches, stack_of, term_lists, with_delta
from .pictures import BATCH, comparison, draw, sheet
from .progress import NodeProgress, tell
from .schema import SettingsType, StackType, requests_from, schema, setting_inputs
from .schema import strength as strength_input

RUN_SHARE = {"read": 0.98, "checked": 0.9, "quick": 0.5, "cached": 0.0}
"""Part of the node's time that the core's run takes: where its own pictures are shown, where they are drawn again for
another strength, where it has drawn none, and where the delta comes from the cache."""
UNTOUCHED = "Nothing was forgotten here: the MODEL is handed on as it came."


class ForgetConcept(io.ComfyNode):
    """The node; wired MODEL to MODEL, each one works on top of those before it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        # widgets are saved by their places alone, so new ones come last
        *wish, seed, force = setting_inputs(REQUEST)
        return schema(
            node_id="UnlearnForgetConcept",
            display_name="Forget Concept",
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
                force,
                io.Vae.Input("vae", optional=True, tooltip="For sharp before and after pictures; rough ones without."),
                SettingsType.Input(
                    "settings", optional=True, tooltip="From Forget Settings. Without it the usual values are used."
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The checkpoint without the concept."),
                StackType.Output(display_name="stack", tooltip="All deltas on the MODEL, for Save Delta and others."),
                io.Image.Output(display_name="before and after", tooltip="Before, and after below it."),
                io.String.Output(display_name="report", tooltip="What was done and how well, in words."),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, concept=None) -> bool | str:
        """Whether the request makes sense, before anything runs; None where its words come by a link."""
        return concept is None or about(cls.hidden.unique_id) or True

    @classmethod
    def fingerprint_inputs(cls, **_) -> str:
        """Changes with the artist's lists of words, which ComfyUI does not see, and after a failure that may pass."""
        lists = " ".join(f"{file} {stamp(file)}" for file in term_lists())
        return f"{lists} {len(FAILED)}"

    @classmethod
    def execute(cls, model, clip, strength=1.0, resolution=0, vae=None, settings=None, **values) -> io.NodeOutput:
        """Make a delta for each concept, or take it from the cache; raises the core's one-sentence errors."""
        if not abs(strength) <= MAX_STRENGTH:
            # by a link, or as no number: ComfyUI looks at typed numbers alone
            raise BadSetting(f"Strength: {strength} is not from -2 to 2: use 1 to forget.")
        key, nodes = cls.hidden.unique_id, sent_nodes(cls.hidden)
        wired = Wired(clip, vae, resolution, strength, key, checkpoint_name(nodes, key))
        own = literals(nodes.get(key, {}).get("inputs", {}))
        with torch.inference_mode(False), torch.no_grad():
            wish, configs = requests_from(facts_of(model).words_file, stack_of(model), own, settings or {}, values)
            tell(key, "\n".join(wish.notes))
            done = []
            for number, config in enumerate(configs):
                done.append(wired.forget(done[-1].model if done else model, config, (number, len(configs))))
            text = "\n\n".join(filter(None, ["\n".join(wish.notes), *(d.text for d in done)]))
            drawn = [d for d in done if d.pictures]
            shown = drawn_together(drawn) | {"text": (text,)}
            picture = sheet([(d.prompts, *d.pictures) for d in drawn]) if drawn else as_image_output(message(text))
        patched = done[-1].model
        stack = stack_of(patched)
        if patched is model:
            stack = replace(stack, withheld=wish.concepts)
        return io.NodeOutput(patched, stack, picture, text, ui=shown)


FAILED: list[str] = []
"""Nodes in which something failed that may work another time: then ComfyUI's own cache is not to answer.

All of them together: ComfyUI up to 0.3.75 does not tell a node its number when it asks what has changed.
"""
Found = tuple[Delta, dict] | None


@dataclass(frozen=True)
class Forgotten:
    """One concept's outcome: the MODEL without it, pictures of prompts before and after, the report as a text.

    pictures: two of `[n, 3, H, W]`; none where the run failed.
    """

    model: Any
    text: str
    prompts: tuple[str, ...] = ()
    pictures: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Wired:
    """What is wired into the node and set on it, beside the MODEL and the request."""

    clip: Any
    vae: Any
    resolution: int
    strength: float
    node: str
    title: str

    def host(self, model) -> ComfyHostModel:
        """A MODEL as the core sees it."""
        return ComfyHostModel(model, self.clip, self.vae, self.resolution, self.title)

    def forget(self, model, config: ForgetConfig, part: tuple[int, int]) -> Forgotten:
        """Make the delta, or take it from the cache, and apply it; the MODEL as it was where that would harm it.

        part: (number, count) of the node's requests.
        """
        host = self.host(model)
        keys = cache.keys(host, model, config)
        found = cache.find(keys)
        progress = NodeProgress(host, self.node, RUN_SHARE[way(config, self.strength, found is not None)], part)
        try:
            delta, report, own = self.made(host, config, keys, found, progress)
        except TrainingFailed as failed:
            progress.finished()
            return Forgotten(model, f"Forget: {config.concept}\nNot kept: {failed} {UNTOUCHED}")
        withheld = why_not(report, config, own or ())
        patched = with_delta(model, delta, self.strength)
        pictures = own if own and (self.strength == 1.0 or withheld) else None
        if pictures is None:
            pictures = both_drawn((host, self.host(patched)), report["prompts"], config, progress)
            withheld = withheld or why_not(report, config, pictures)
            if self.strength == 1.0 and not broken_in(pictures):
                # in full precision the same autoencoder may draw them
                cache.store_pictures(keys, report, pictures)
        before, after = map(in_eight_bits, pictures)
        text = as_text({**report, "withheld": withheld}, other_patches(model), found is not None)
        if self.strength != 1.0 and not withheld:
            text += f"\nStrength: {self.strength:g} in the pictures and on the MODEL; what stands above is of 1"
        progress.finished()
        if withheld:
            return Forgotten(model, f"{text}\n{UNTOUCHED}", tuple(report["prompts"]), (before, after))
        return Forgotten(patched, text, tuple(report["prompts"]), (before, after))

    def made(
        self, host: ComfyHostModel, config: ForgetConfig, keys: cache.Keys, found: Found, progress: NodeProgress
    ) -> tuple[Delta, dict, tuple[Tensor, ...] | None]:
        """(delta, report, pictures of strength 1 where there are any), from the cache or by a run, which is stored."""
        if found:
            delta, report = found
            # as a run of today would write it: what had no effect may have other values now
            info = replace(delta.info, config=config.deciding(), base_name=host.title)
            return Delta(delta.factors, info), report, cache.find_pictures(keys, report)
        memory.throw_exception_if_processing_interrupted()
        saved = cache.saved_work(host)
        progress.goes_on = saved is not NOTHING
        try:
            result = forget_or_go_on(host, config, host.stack, progress, saved)
        except TrainingFailed:
            saved.remove()  # it would end in the same way
            raise
        report = {**result.report, "prompts": list(result.prompts)}
        if unfinished(report):
            FAILED.append(self.node)
        lasting = not unfinished(report) and not broken_in((result.before, result.after))
        if lasting:
            cache.store(keys, result.delta, report)
        saved.remove()
        if result.before is None or result.after is None:
            return result.delta, report, None
        if lasting:
            cache.store_pictures(keys, report, (result.before, result.after))
        return result.delta, report, (result.before, result.after)


def why_not(report: dict, config: ForgetConfig, pictures: Iterable[Tensor]) -> str:
    """Why the delta with this report and these pictures before and after is not applied, or ""."""
    return "" if config.force else harm_in(report, config) or broken_in(pictures)


def way(config: ForgetConfig, strength: float, cached: bool) -> str:
    """Which of `RUN_SHARE` a request is."""
    if cached:
        return "cached"
    if not config.check:
        return "quick"
    return "read" if strength == 1.0 else "checked"


def both_drawn(
    hosts: tuple[ComfyHostModel, ComfyHostModel], prompts: list[str], config: ForgetConfig, progress: NodeProgress
) -> tuple[Tensor, Tensor]:
    """Pictures of the same prompts and noise by two MODELs."""
    ticks = len(hosts) * config.sampling_steps * math.ceil(len(prompts) / BATCH)
    tick = lambda: progress.drawing(ticks)  # noqa: E731
    before, after = (
        draw(h, prompts, config.seed, config.sampling_steps, at_own_guidance(config, h).guidance, tick) for h in hosts
    )
    return before, after


def in_eight_bits(pictures: Tensor) -> Tensor:
    """Pictures as a file gives them back, so that a cached run shows the very same; what is no number is black."""
    return (pictures.nan_to_num(0.0) * 255).round() / 255


def drawn_together(done: list[Forgotten]) -> dict[str, Any]:
    """All pictures of a node on its slider; where there are none, the same names.

    By those of a list's first run ComfyUI joins all of its runs.
    """
    if not done:
        return {"unlearn_before": [], "unlearn_after": [], "unlearn_prompts": []}
    before, after = (torch.cat(rows) for rows in zip(*(d.pictures for d in done), strict=True))
    return comparison([p for d in done for p in d.prompts], before, after)


def as_image_output(picture: Tensor) -> Tensor:
    """`[1, 3, H, W]` as ComfyUI's IMAGE."""
    return picture.movedim(1, -1)


def as_text(report: dict, others: int, cached: bool) -> str:
    """The report's rows, a line each. others: patches on the MODEL that are no deltas."""
    rows = summary(report)
    if cached:
        rows.append(("From the cache", "nothing was made anew"))
    if others:
        rows.append(("Other LoRAs on the MODEL", f"yes, {others} patches; the delta was made with them on"))
    return "\n".join(f"{label}: {value}" for label, value in rows)
