"""Keeps tests to two threads, divides them between two processes, and runs to few pictures where a test asks for it."""

import gc
import os

import pytest
import torch

from tests.comfy.sources import SOURCES
from tests.few import reduced

# a run looks for garbage between its phases: all that is imported is left out of it
gc.collect()
gc.freeze()

WORKER = "PYTEST_XDIST_WORKER" in os.environ
"""Another process tests beside this one: each, and what it starts, gets one thread."""

if WORKER:
    os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(min(1 if WORKER else 2, torch.get_num_threads()))


def together(nodeid):
    """What is tested in one process, as it shares what is slow to start: one ComfyUI version, or one file."""
    file, _, test = nodeid.partition("::")
    version = file.startswith("tests/comfy/") and next((v for v in SOURCES if v in test), None)
    return f"ComfyUI {version}" if version else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return together(nodeid)

    return Together(config, log)


def pytest_collection_modifyitems(items):
    """Long ones first where two processes share the work, so that none works alone at the end."""
    if WORKER:
        slow = {together(i.nodeid) for i in items if i.get_closest_marker("slow")}
        items.sort(key=lambda i: together(i.nodeid) not in slow)


@pytest.fixture(scope="module")
def few():
    with reduced("unlearn_core"):
        yield


@pytest.fixture(scope="module")
def few_in_pack():
    """The same for the core as the hosts' package has it."""
    from tests.webui import pack

    pack.load("unlearn_core")
    with reduced(f"{pack.NAME}.unlearn_core"):
        yield
