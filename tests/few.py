"""Whole runs with few prompts and pictures, for tests that are not about how well a concept is forgotten."""

from contextlib import contextmanager
from importlib import import_module

import pytest


@contextmanager
def reduced(package):
    """The core that is imported as `package` with the recipe for tests, for the length of a block."""
    recipe = import_module(f"{package}.recipe")
    with pytest.MonkeyPatch.context() as patch:
        for kind, small in recipe.SMALL.items():
            patch.setitem(recipe.DEFAULT, kind, small)
        yield
