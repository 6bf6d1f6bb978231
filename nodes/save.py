"""Save Delta: deltas as files in the loras folder, where every LoRA loader finds them."""

from __future__ import annotations

import os
import re
from pathlib import Path

import folder_paths
import torch
from comfy_api.latest import io
from torch import Tensor

from ..unlearn_core import BadDelta, BadSetting, Delta, Stack, UnlearnError, load, save
from ..unlearn_core.delta.format import SUFFIX
from ..unlearn_core.delta.merge import combine_cat
from ..unlearn_core.delta.outputs import is_signed
from ..unlearn_core.delta.paths import contained, linked, safe_file_name
from ..unlearn_core.picture_file import save_image
from ..unlearn_core.words.compare import same_thing
from .pictures import as_image
from .schema import StackType, schema

FOLDER = "loras"
NEWEST, EACH, MERGED = "newest delta", "each delta", "one merged file"
LONGEST = 400
"""Characters of a name with its folders."""
WRITTEN: set[Path] = set()
"""Files that were written since ComfyUI's start, and were there when they were looked for last."""
GONE: list[Path] = []
"""Those that were not: somebody has deleted or moved them."""


class SaveDelta(io.ComfyNode):
    """What Forget Concept has made, or the whole stack, into the loras folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return schema(
            node_id="UnlearnSaveDelta",
            display_name="Save Delta",
            description="Writes deltas into the loras folder, where every LoRA loader finds them: what the last Forget "
            "Concept has made, each delta of the stack, or all of them as one file.",
            inputs=[
                StackType.Input("stack", tooltip="From Forget Concept, Stack Unlearning or Apply Unlearning."),
                io.String.Input(
                    "name",
                    display_name="Name",
                    default="",
                    tooltip="File name without ending, with a folder before it if you like: unlearn/ink. Empty: the "
                    "concept's name. An existing file is never replaced: the new one gets a number.",
                ),
                io.Image.Input("picture", optional=True, tooltip="Saved beside it as its preview picture."),
                io.Combo.Input(
                    "save",
                    display_name="Save",
                    options=[NEWEST, EACH, MERGED],
                    default=NEWEST,
                    optional=True,
                    tooltip="Newest delta: what the last Forget Concept has made. Each delta: all of the stack, a file "
                    "each. One merged file: a single LoRA that does what the whole stack does.",
                ),
            ],
            outputs=[io.String.Output(display_name="file", tooltip="The name for a LoRA loader.")],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, name=None) -> bool | str:
        """Whether the name can be a file's, before anything runs; None where it comes by a link."""
        try:
            if name is not None:
                check_folders(Path(loras()), place(name, "delta"))
        except UnlearnError as problem:
            return str(problem)
        return True

    @classmethod
    def fingerprint_inputs(cls, **_) -> int:
        """Changes where a file that was written is gone: ComfyUI's own cache would say that it is there."""
        gone = {file for file in WRITTEN if not os.path.exists(file)}
        WRITTEN.difference_update(gone)
        GONE.extend(gone)
        return len(GONE)

    @classmethod
    def execute(cls, stack, name, picture=None, save=NEWEST) -> io.NodeOutput:
        """Write it; an existing file of other contents is never replaced, a number is added to the name."""
        if not len(stack):
            # a Forget Concept that kept nothing must not keep the rest of the workflow from running
            text = ("nothing was saved: there is no delta on the stack",)
            return io.NodeOutput("", ui={"text": text, "unlearn_folder": ()})
        if stack.withheld and save == NEWEST:
            named = ", ".join(f"'{concept}'" for concept in stack.withheld)
            text = (f"nothing was saved: the last Forget Concept kept nothing of {named}",)
            return io.NodeOutput("", ui={"text": text, "unlearn_folder": ()})
        folder = loras()
        with torch.inference_mode(False), torch.no_grad():
            chosen = deltas(stack, save)
            written = [written_as(d, folder, place(name, d.info.concept, len(chosen) > 1), picture) for d in chosen]
        WRITTEN.update(written)
        names = [str(file.relative_to(Path(folder).resolve())) for file in written]
        text = [f"saved as {n}" for n in names]
        if below := needed_below(chosen):
            text.append(f"Made on top of {', '.join(below)}: load what is below as well.")
        return io.NodeOutput(names[-1], ui={"text": tuple(text), "unlearn_folder": (str(folder),)})


def loras() -> str:
    """The folder where deltas go."""
    return folder_paths.get_folder_paths(FOLDER)[0]


def check_folders(root: Path, name: str) -> None:
    """Raise `BadSetting` where a folder of the name is none: a file has it, or a link, which may lead anywhere."""
    for part in reversed(Path(name).parents[:-1]):
        if os.path.lexists(root / part) and not (root / part).resolve().is_dir():
            raise BadSetting(f"Name: '{part.as_posix()}' in the loras folder is no folder. Choose another name.")
        if not (root / part).resolve().is_relative_to(root.resolve()):
            raise BadSetting(
                f"Name: '{part.as_posix()}' in the loras folder is a link to another place, where nothing is written. "
                "Choose another name."
            )


def needed_below(chosen: list[Delta]) -> list[str]:
    """What was forgotten below some deltas and is not among them."""
    saved = {concept for delta in chosen for concept in delta.info.concepts}
    below = [p.concept for delta in chosen for p in delta.info.parents if p.strength]
    return [f"'{concept}'" for concept in dict.fromkeys(below) if concept not in saved]


def deltas(stack: Stack, what: str) -> list[Delta]:
    """What is to be saved of a stack. Raises `BadDelta` where there is nothing to merge.

    Raises `BadSetting` for an unknown choice: older versions of ComfyUI let it pass.
    """
    if what == EACH:
        return [entry.delta for entry in stack]
    if what == MERGED:
        only = stack.active[0] if len(stack.active) == 1 else None
        # the one delta at its own strength is its file already
        return [only.delta if only and only.strength == 1.0 else combine_cat(stack)]
    if what != NEWEST:
        raise BadSetting(f"Save: '{what}' is not one of {NEWEST}, {EACH}, {MERGED}.")
    return of_one_wish(stack)


def of_one_wish(stack: Stack) -> list[Delta]:
    """The newest delta, and before it those of the same wish, which say that its concept was to go next."""
    *earlier, newest = (entry.delta for entry in stack)

    def same_wish(delta: Delta) -> bool:
        going = delta.info.config.get("going")
        return isinstance(going, list) and any(same_thing(newest.info.concept, str(c)) for c in going)

    return [*filter(same_wish, earlier), newest]


def place(name: str, concept: str, several: bool = False) -> str:
    """The path inside the loras folder, without ending, of a delta under the name that was typed.

    several: whether other deltas are saved under the same name, so that each needs its concept's name too. Raises
    `BadSetting` for a name that leads out of the folder.
    """
    typed = name.strip()
    parts = re.split(r"[/\\]", typed)
    if len(typed) > LONGEST:
        raise BadSetting(f"Name: at most {LONGEST} characters, not {len(typed)}.")
    if ".." in parts or (len(parts) > 1 and not parts[0]) or re.match("[A-Za-z]:", typed) or "\0" in typed:
        raise BadSetting(
            f"Name: '{printable(typed)}' leads out of the loras folder: write a name, or a folder inside it and a "
            "name, like unlearn/ink."
        )
    *folders, stem = parts
    stem = stem.removesuffix(SUFFIX).strip()
    if not stem:
        stem = f"forget {concept}"
    elif several:
        stem = f"{stem} {concept}"
    inside = [safe_file_name(f) for f in folders if f.strip() not in ("", ".")]
    return "/".join([*inside, safe_file_name(stem)])


def printable(text: str) -> str:
    """A text without what a line cannot show."""
    return "".join(c if c.isprintable() else "?" for c in text)


def written_as(delta: Delta, folder: str, name: str, picture: Tensor | None) -> Path:
    """Write a delta under a name inside `folder`, with its preview picture; the file."""
    file = free_name(folder, name, delta)
    named = delta.named(file.stem)
    # what is right already may be open in a loader, and on Windows cannot be replaced then
    if not file.exists() or load(file).info != named.info:
        save(named, file)
    preview = file.with_suffix(".preview.png")
    if picture is not None and (not os.path.lexists(preview) or is_signed(preview)):
        save_image(preview, as_image(picture[0].movedim(-1, 0).clamp(0, 1)))
    return file


def free_name(folder: str, name: str, delta: Delta) -> Path:
    """A place in `folder` that is free or holds this very delta; a link takes a name too, wherever it leads."""
    number = 1
    while True:
        numbered = f"{name}{'' if number == 1 else f'_{number}'}{SUFFIX}"
        file = linked(folder, numbered)
        if not os.path.lexists(file):
            return contained(folder, numbered)
        try:
            if load(file).content_hash() == delta.content_hash():
                return file
        except BadDelta:
            pass
        number += 1
