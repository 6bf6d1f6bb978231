"""Whole runs of the demo model with few pictures, for tests that are not about how well it forgets."""

import importlib
from contextlib import contextmanager


@contextmanager
def reduced(package):
    """The core that is imported as `package` with its recipe for tests, for the length of a block."""
    recipe = importlib.import_module(f"{package}.recipe")
    own = dict(recipe.DEFAULT)
    recipe.DEFAULT.update(recipe.SMALL)
    try:
        yield
    finally:
        recipe.DEFAULT.update(own)
