"""Runs another script of this folder inside ComfyUI with layers that are filled as with dynamic VRAM.

usage: python boot.py COMFYUI_FOLDER lazy.py SCRIPT [its arguments]

ComfyUI's dynamic VRAM wants a card. What can be had without one is how its layers take their weights: as they are in
the file, whatever type the layers were made for. Only for ComfyUI versions that know it.
"""

import runpy
import sys

import comfy.options
from safetensors import safe_open
from safetensors.torch import load_file


def from_file(path):
    """A file's tensors and what it says of itself, in place of a reader that needs the card's driver."""
    with safe_open(path, framework="pt") as file:
        return load_file(path), file.metadata() or {}


if __name__ == "__main__":
    script, *arguments = sys.argv[1:]
    # ComfyUI reads its options when its modules are loaded; the script's own arguments are none of them
    sys.argv = [script, *(a for a in arguments if a.startswith("--"))]
    comfy.options.enable_args_parsing()
    from comfy import memory_management, utils

    memory_management.aimdo_enabled = True
    utils.load_safetensors = from_file
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")
