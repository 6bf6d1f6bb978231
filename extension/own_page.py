"""Who may talk to the page that `python -m extension` serves: the page itself and programs on this machine.

Any web page that is open in the same browser can send requests to 127.0.0.1, and can get a name of its own to point
there. So a request has to name this address as its host, and must not come from another page.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

NAMES = ("127.0.0.1", "localhost", "[::1]")
LOOKING = ("GET", "HEAD", "OPTIONS")
BODIES = ("application/json", "multipart/form-data")
"""What the page itself posts, and what no form of another page can: that one would come with its origin."""


class OwnPage:
    """ASGI middleware in front of the page's app."""

    def __init__(self, app: App, port: int):
        self.app = app
        self.hosts = {f"{name}:{port}" for name in NAMES} | (set(NAMES) if port == 80 else set())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on, or refuse it with 403 and a sentence."""
        why = self.refusal(scope) if scope["type"] in ("http", "websocket") else ""
        if not why:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            # before it is accepted a server turns this into a 403
            await send({"type": "websocket.close", "code": 1008, "reason": why})
        else:
            await answer(send, 403, "text/plain; charset=utf-8", why + "\n")

    def refusal(self, scope: Scope) -> str:
        """Why the request is refused, or ""."""
        hosts, origins, sites = (header(scope, name) for name in ("host", "origin", "sec-fetch-site"))
        if len(hosts) != 1 or hosts[0].lower() not in self.hosts:
            return "This page is only served on this machine: open the address that the program printed."
        if any(origin.lower() != f"http://{hosts[0].lower()}" for origin in origins):
            return "Another web page sent this request: only the Unlearn page itself may."
        if scope["type"] == "websocket" or scope["method"] in LOOKING:
            return ""
        if any(site != "same-origin" for site in sites):
            return "Another web page sent this request: only the Unlearn page itself may."
        # browsers say where a POST of another page comes from, so what says nothing is a program on this machine
        if not origins and media_type(scope) not in BODIES:
            return "Send the body as JSON, with the header Content-Type: application/json."
        return ""


def header(scope: Scope, name: str) -> list[str]:
    """All values of a header; name in lower case."""
    return [value.decode("latin-1").strip() for key, value in scope["headers"] if key.lower() == name.encode()]


def media_type(scope: Scope) -> str:
    """The body's type without its parameters, or ""."""
    return next(iter(header(scope, "content-type")), "").partition(";")[0].strip().lower()


async def answer(send: Send, status: int, kind: str, text: str) -> None:
    """Send a short answer."""
    body = text.encode()
    headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
