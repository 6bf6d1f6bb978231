"""`python -m extension` with the recipe for tests: few prompts and pictures. Takes the same options."""

import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
load = runpy.run_path(str(ROOT / "tests" / "webui" / "pack.py"))["load"]
recipe = load("unlearn_core.recipe")
recipe.DEFAULT.update(recipe.SMALL)
sys.exit(load("extension.app").main())
