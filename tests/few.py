"""Whole runs with few prompts and pictures, for tests that are not about how well the model forgets."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def reduced(package: str) -> Iterator[None]:
    """The core that is imported as `package` with the small recipes in place of its own, for the length of a block."""
    recipe = importlib.import_module(f"{package}.recipe")
    with pytest.MonkeyPatch.context() as patch:
        for kind, small in recipe.SMALL.items():
            patch.setitem(recipe.DEFAULT, kind, small)
        yield
