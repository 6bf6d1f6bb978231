"""Serving the tab's page on this machine, and finding a port for it before anything slow is loaded."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import webbrowser
from collections.abc import Iterable
from typing import Any

from .own_page import OwnPage

ADDRESS = "127.0.0.1"
FIRST_PORT, MOST_TRIES = 7861, 20
PATIENCE = 30.0
"""Seconds until the server answers, on a busy machine as well."""


class PortTaken(Exception):
    """No port is free; the message says which ones were tried."""


def free_port(ports: Iterable[int]) -> int:
    """The first port that nobody listens at. Raises `PortTaken`."""
    tried = []
    for port in ports:
        try:
            listen_once(port)
        except OSError:
            tried.append(port)
        else:
            return port
    if len(tried) == 1:
        raise PortTaken(f"Port {tried[0]} is in use: end what uses it, or choose another --port.")
    raise PortTaken(f"Ports {tried[0]} to {tried[-1]} are in use: choose another one with --port.")


def listen_once(port: int) -> None:
    """Listen at a port for a moment. Raises `OSError`."""
    # not `asyncio.run`: it leaves the thread without a loop, and gradio 4 asks for one
    loop = asyncio.new_event_loop()
    try:
        server = loop.run_until_complete(loop.create_server(asyncio.Protocol, ADDRESS, port))
        server.close()
        loop.run_until_complete(server.wait_closed())
    finally:
        loop.close()


def app_of(page: Any, port: int) -> OwnPage:
    """The whole of what is served for the Blocks `page`."""
    import gradio
    from starlette.applications import Starlette

    page.show_api = False
    # not `launch`: what it puts around the app would answer other pages before our rules are asked
    return OwnPage(gradio.mount_gradio_app(Starlette(), page, path="/"), port)


def serve(page: Any, port: int, browser: bool) -> None:
    """Answer on this machine until Ctrl-C; the address is printed once it answers. Raises `PortTaken`."""
    import uvicorn

    # gradio 4 keeps a connection open for each page, and nobody waits for those
    options = {"log_level": "critical", "timeout_graceful_shutdown": 1, "ws": "none"}
    server = uvicorn.Server(uvicorn.Config(app_of(page, port), ADDRESS, port, **options))
    # in a thread it leaves Ctrl-C to us
    thread = threading.Thread(target=run, args=(server,), name="unlearn page", daemon=True)
    thread.start()
    waited = threading.Event()
    for _ in range(round(PATIENCE / 0.05)):
        if server.started or not thread.is_alive():
            break
        waited.wait(0.05)
    if not server.started:
        raise PortTaken(f"The page could not be served at port {port}: choose another one with --port.")
    address = f"http://{ADDRESS}:{port}"
    print(f"Unlearn is at {address} (Ctrl-C ends it)", flush=True)
    if browser:
        webbrowser.open(address)
    try:
        while thread.is_alive():
            thread.join(1.0)
    except KeyboardInterrupt:
        server.should_exit = True
        thread.join(5.0)


def run(server: Any) -> None:
    """Run it; a port that was taken meanwhile ends it without a word."""
    # what a client has cut off is told there, with a traceback
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    with contextlib.suppress(SystemExit):
        server.run()
