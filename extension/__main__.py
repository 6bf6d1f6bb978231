"""python -m extension: loads the pack as one package under a name of its own and starts the app."""

import importlib
import importlib.util
import sys
from pathlib import Path

NAME, ROOT = "unlearn_pack", Path(__file__).resolve().parents[1]

if __name__ == "__main__":
    spec = importlib.util.spec_from_file_location(NAME, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    sys.modules[NAME] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[NAME])
    sys.exit(importlib.import_module(f"{NAME}.extension.app").main())
