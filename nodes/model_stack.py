"""What is attached to a MODEL: the deltas on it and facts of its base; ComfyUI's own patches do the work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import comfy.sd
import folder_paths

from ..unlearn_core import BadDelta, BadSetting, Delta, Stack
from ..unlearn_core.delta.format import tensors
from ..unlearn_core.words.term_lists import OWN_NAME, lists_in

STACK, FACTS, SCALINGS = "unlearn_stack", "unlearn_facts", "unlearn_scalings"


@dataclass(frozen=True)
class BaseFacts:
    """What only the node that loaded a base knows; empty values mean that nothing is known."""

    architecture: str = ""
    resolution: int = 0
    words_file: str | None = None
    title: str = ""


def term_lists() -> tuple[Path, ...]:
    """Lists of words of the packs that are installed, and the artist's own one, models/unlearn/vocabulary.txt."""
    own = Path(folder_paths.models_dir) / "unlearn" / OWN_NAME
    packs = folder_paths.get_folder_paths("custom_nodes")
    return tuple(dict.fromkeys(file for pack in packs or ["."] for file in lists_in(Path(pack), own)))


def facts_of(model) -> BaseFacts:
    """The facts that a loader attached, or empty ones."""
    return model.get_attachment(FACTS) or BaseFacts()


def stack_of(model) -> Stack:
    """The deltas that are on a MODEL, lowest first.

    Raises `BadSetting` for a merge of MODELs that was made on top of them: they act in part there.
    """
    stack = model.get_attachment(STACK) or Stack()
    if len(stack) and scalings(model) > (model.get_attachment(SCALINGS) or 0):
        raise BadSetting(
            "This MODEL was merged with another one after deltas were put on it, so they act in part only: merge "
            "first, then forget."
        )
    return stack


def with_delta(model, delta: Delta, strength: float = 1.0):
    """A MODEL with one more delta, patched in by ComfyUI's own LoRA loader, and the grown stack attached to it.

    Raises `BadDelta` when it is on the MODEL already or not all of its layers are found.
    """
    stack = stack_of(model).with_delta(delta, strength)
    before = patch_count(model)
    patched, _ = comfy.sd.load_lora_for_models(model, None, tensors(delta), strength, 0.0)
    matched = patch_count(patched) - before
    if matched != len(delta.factors):
        raise BadDelta(
            f"Only {matched} of {len(delta.factors)} layers of '{delta.label}' are in this MODEL: "
            "load the checkpoint that it was made for."
        )
    patched.set_attachments(STACK, stack)
    patched.set_attachments(SCALINGS, scalings(patched))
    return patched


def with_stack(model, stack: Stack):
    """A MODEL with all deltas of a stack put on top of what it carries."""
    for entry in stack:
        model = with_delta(model, entry.delta, entry.strength)
    return model


def other_patches(model) -> int:
    """Number of patches that are none of the stack's: of other LoRAs."""
    return patch_count(model) - sum(len(entry.delta.factors) for entry in stack_of(model))


def scalings(model) -> int:
    """Number of patches that scale what lies below them, as those of a merge do and those of LoRAs do not."""
    return sum(patch[2] != 1.0 for patches in model.patches.values() for patch in patches)


def patch_count(model) -> int:
    """Number of patches of a MODEL."""
    return sum(map(len, model.patches.values()))
