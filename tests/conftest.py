"""Keeps tests to two threads, divides them between two processes, and runs to few pictures where a test asks for it."""

import gc
import os
import signal
import sys

import pytest
import torch

from tests.balance import Stopwatch, group_of, longest_first
from tests.few import reduced

WORKER = "PYTEST_XDIST_WORKER" in os.environ
"""Another process tests beside this one: each, and what it starts, gets one thread."""

if WORKER:
    os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(min(1 if WORKER else 2, torch.get_num_threads()))

os.environ["UNLEARN_CACHE"] = "off"
"""Nothing is left in the home of whoever tests, also by programs that tests start."""

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # a shell's job in the background ignores Ctrl-C, and so would what some tests start to press it
    signal.signal(signal.SIGINT, signal.default_int_handler)


MODULES_AT_ONCE = 300
imported = 0
"""How many modules there were when the search for garbage was last made short."""


def pytest_addoption(parser):
    parser.addoption("--write-durations", action="store_true", help="write tests/durations.json anew; with --all")


def pytest_configure(config):
    if config.getoption("write_durations") and not WORKER:
        config.pluginmanager.register(Stopwatch())


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return group_of(nodeid)

    return Together(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Sort when those that `-m` leaves out are gone, so that no process works alone at the end."""
    if WORKER:
        longest_first(items)


def pytest_runtest_setup():
    """Keep garbage collections off all that was imported: small runs of the product take most of their time there."""
    global imported
    if len(sys.modules) > imported + MODULES_AT_ONCE:
        gc.collect()
        gc.freeze()
        imported = len(sys.modules)


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
