"""The entry for Automatic1111 and Forge: loads the pack as one package under a name of its own and adds its tab."""

import importlib
import importlib.util
import sys
from pathlib import Path

NAME, ROOT = "sd_unlearn_pack", Path(__file__).resolve().parents[1]

if NAME not in sys.modules:
    spec = importlib.util.spec_from_file_location(NAME, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    sys.modules[NAME] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[NAME])
importlib.import_module(f"{NAME}.extension.register").register()
