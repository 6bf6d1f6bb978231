"""The pack as ComfyUI loads it, for scripts that run inside any of its versions."""

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def load_pack() -> None:
    """The repository as "the_pack": a package under a name of its own."""
    spec = importlib.util.spec_from_file_location(
        "the_pack", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    sys.modules["the_pack"] = pack = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pack)
