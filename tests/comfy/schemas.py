"""Runs inside ComfyUI: prints as its last line what each node says of itself, in the form of `locales/*/nodeDefs.json`.

usage: python boot.py COMFYUI_FOLDER schemas.py --cpu
"""

import asyncio
import importlib.util
import json
import sys
from pathlib import Path

import comfy.options

ROOT = Path(__file__).resolve().parents[2]


def texts(schema):
    """A node's texts: its title, and each input and output with its name and its help."""
    inputs = {i.id: {"name": i.display_name or i.id, "tooltip": i.tooltip} for i in schema.inputs}
    outputs = {str(n): {"name": o.display_name, "tooltip": o.tooltip} for n, o in enumerate(schema.outputs)}
    return {
        "display_name": schema.display_name,
        "description": schema.description,
        "inputs": inputs,
        "outputs": outputs,
    }


def main():
    """Ask the pack for its nodes, as ComfyUI does at its start."""
    comfy.options.enable_args_parsing()
    spec = importlib.util.spec_from_file_location(
        "the_pack", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    sys.modules["the_pack"] = pack = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pack)
    from the_pack import nodes

    nodes.listen = lambda: None  # there is no server to listen to
    schemas = [node.define_schema() for node in asyncio.run(nodes.Unlearning().get_node_list())]
    print(json.dumps({schema.node_id: texts(schema) for schema in schemas}))


if __name__ == "__main__":
    main()
