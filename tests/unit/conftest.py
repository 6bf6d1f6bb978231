"""What all unit tests share."""

import gc
import sys

import pytest

known = 0
"""Modules that were imported when the heap was last frozen."""


@pytest.fixture(autouse=True)
def frozen():
    """What is imported is left out when a run looks for garbage, which takes four fifths of a tiny one."""
    global known
    if len(sys.modules) > known:
        gc.collect()
        gc.freeze()
        known = len(sys.modules)
