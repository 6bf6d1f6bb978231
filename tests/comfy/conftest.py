"""A running ComfyUI of each supported version; tests that take `comfy` run once for each."""

from __future__ import annotations

import pytest

from tests.comfy.sources import SOURCES
from tests.comfy.workflows import reduced


@pytest.fixture(scope="session", params=SOURCES)
def comfy(request, tmp_path_factory):
    """A server with this pack in it; pytest sorts the tests so that only one runs at a time."""
    pytest.importorskip("aiohttp", reason="needs requirements/comfy.txt")
    from tests.comfy.server import Server

    with Server(request.param, tmp_path_factory.mktemp(f"comfy {request.param}")) as server:
        yield server


@pytest.fixture
def page(comfy):
    """A connection to that server, as one web page has it."""
    with comfy.client() as client:
        yield client


@pytest.fixture(scope="module")
def window(comfy, tmp_path_factory):
    """The server's page in a browser, without the templates that greet a newcomer."""
    from tests.browser import Browser
    from tests.comfy.page import READY

    with comfy.client() as client:
        client.post("/settings/Comfy.TutorialCompleted", True)
    with Browser(tmp_path_factory.mktemp("browser")) as browser:
        browser.goto(f"http://{comfy.address}/")
        browser.until(READY, 300)
        yield browser


@pytest.fixture
def few_pictures(page):
    """The server's runs with few pictures, until the end of the test."""
    with reduced(page):
        yield


@pytest.fixture(scope="session")
def checkpoint(comfy):
    """A function that makes a tiny checkpoint of a kind in the server's folder and gives its name there."""
    from tests.comfy.tiny_checkpoints import write

    def make(kind: str) -> str:
        file = comfy.models / "checkpoints" / f"tiny {kind}.ckpt"
        return (file if file.exists() else write(kind, file)).name

    return make
