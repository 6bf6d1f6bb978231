"""The repository as one package under a name of its own, as hosts load it."""

import importlib
import importlib.util
import sys
from pathlib import Path

NAME, ROOT = "unlearn_pack_in_tests", Path(__file__).resolve().parents[2]


def load(module: str):
    """A module of the pack, like "extension.jobs"."""
    if NAME not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            NAME, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
        )
        sys.modules[NAME] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[NAME])
    return importlib.import_module(f"{NAME}.{module}")
