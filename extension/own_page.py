"""Who may talk to the page that `python -m extension` serves, and what that page may load: this machine alone.

Any web page that is open in the same browser can send requests to 127.0.0.1, can get a name of its own to point there,
and can put a page of ours into a frame of its own. So a request has to name this address as its host, must not come
from another page, and reaches only what the page uses: gradio would also hand out files of the folder it runs in.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

NAMES = ("127.0.0.1", "localhost", "[::1]")
LOOKING = ("GET", "HEAD")
PAGE = "/"
USED = (PAGE, "/config", "/info", "/theme.css", "/favicon.ico", "/run/predict")
FOLDERS = ("/assets/", "/static/", "/heartbeat/")
"""All that the page asks for, in both versions of gradio."""
MOST_BODY = 2**22
"""Bytes of a request: what the page knows of its pictures goes there and back."""
ELSEWHERE = re.compile(
    rb"<script[^>]*\ssrc=[\"']?(?:https?:)?//[^>]*>\s*</script>|<link[^>]*\shref=[\"']?(?:https?:)?//[^>]*>",
    re.IGNORECASE,
)
"""What gradio's page loads from other servers: fonts, and a script for pages in frames."""
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-src 'none'; frame-ancestors 'none'"
)
"""The page's own scripts lie in its HTML, and the tab's pictures in their addresses."""
RULES = {
    "content-security-policy": POLICY,
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
NOT_OURS = "Another web page sent this request: only the Unlearn page itself may."
NOT_FITTING = "This request does not fit the page: load it again."


class OwnPage:
    """ASGI middleware around the page's app and all that gradio puts around it."""

    def __init__(self, app: App, port: int):
        self.app = app
        self.hosts = {f"{name}:{port}" for name in NAMES} | (set(NAMES) if port == 80 else set())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on, or refuse it with a sentence."""
        if scope["type"] == "websocket":
            # before it is accepted a server turns this into a 403; the page opens none
            return await send({"type": "websocket.close", "code": 1008, "reason": NOT_OURS})
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        status, why = self.refusal(scope)
        sent = Bounded(receive)
        reply = Reply(send, scope, sent)
        if why:
            return await answer(reply.pass_on, status, "text/plain; charset=utf-8", why + "\n")
        try:
            await self.app(scope, sent, reply)
        except TooLong:
            await reply.instead(413, f"This request is longer than {MOST_BODY} bytes.")
        except Exception:
            # gradio's own words about a request that no page of ours sends; nothing of the tab raises

            await reply.instead(422, NOT_FITTING)

    def refusal(self, scope: Scope) -> tuple[int, str]:
        """(status, why the request is refused), or (200, "")."""
        hosts, origins, sites = (header(scope, name) for name in ("host", "origin", "sec-fetch-site"))
        if len(hosts) != 1 or hosts[0].lower() not in self.hosts:
            return 403, "This page is only served on this machine: open the address that the program printed."
        if any(origin.lower() != f"http://{hosts[0].lower()}" for origin in origins):
            return 403, NOT_OURS
        path, looking = scope["path"], scope["method"] in LOOKING
        # a link on another page may lead here, and nothing else there may
        followed = looking and path == PAGE and header(scope, "sec-fetch-dest") in ([], ["document"])
        if any(site not in ("same-origin", "none") for site in sites) and not followed:
            return 403, NOT_OURS
        if not (path in USED or path.startswith(FOLDERS)) or ".." in path or "//" in path or not path.isprintable():
            return 404, "There is no such address."
        if not looking and scope["method"] != "POST":
            return 405, "This page takes GET and POST alone."
        # browsers say where a POST of another page comes from, so what says nothing is a program on this machine
        if not looking and media_type(scope) != "application/json":
            return 415, "Send the body as JSON, with the header Content-Type: application/json."
        return 200, ""


class TooLong(Exception):
    """A request has more bytes than any that the page sends."""


class Bounded:
    """What a client sends, up to a bound. Raises `TooLong`."""

    def __init__(self, receive: Receive):
        self.receive, self.length = receive, 0

    async def __call__(self) -> Message:
        """The next part."""
        message = await self.receive()
        self.length += len(message.get("body", b""))
        self.check()
        return message

    def check(self) -> None:
        """Raise `TooLong` where there was more than the bound."""
        if self.length > MOST_BODY:
            raise TooLong


class Reply:
    """What the app answers, with the rules of `RULES`, without leave for other pages, and a page that loads nothing
    from elsewhere."""

    def __init__(self, send: Send, scope: Scope, sent: Bounded):
        self.send, self.is_page, self.sent = send, scope["path"] == PAGE, sent
        self.begun = False
        self.start: Message = {}
        self.parts: list[bytes] = []

    async def __call__(self, message: Message) -> None:
        """Take the app's next message."""
        if message["type"] == "http.response.start":
            self.start = message
            # the app takes `TooLong` for a body that it cannot read, and has words of its own for that
            self.sent.check()
            if message["status"] >= 500:
                raise ValueError("the app failed")
            if not self.is_page:
                await self.pass_on(message)
        elif self.is_page and message["type"] == "http.response.body":
            self.parts.append(message.get("body", b""))
            if not message.get("more_body"):
                await self.page()
        else:
            await self.send(message)

    async def page(self) -> None:
        """Send the whole page."""
        body = ELSEWHERE.sub(b"", b"".join(self.parts))
        pairs = [(k, v) for k, v in self.start["headers"] if k.lower() != b"content-length"]
        # what is asked for by HEAD has a length and no body
        length = [(b"content-length", str(len(body)).encode())] if body else []
        await self.pass_on({**self.start, "headers": pairs + length})
        await self.send({"type": "http.response.body", "body": body})

    async def pass_on(self, message: Message) -> None:
        """Send on a message; a start gets the rules."""
        if message["type"] == "http.response.start":
            self.begun = True
            kept = [(k, v) for k, v in message["headers"] if not k.lower().startswith(b"access-control-")]
            message = {**message, "headers": kept + [(k.encode(), v.encode()) for k, v in RULES.items()]}
        await self.send(message)

    async def instead(self, status: int, why: str) -> None:
        """Answer with a sentence in place of what has failed."""
        if not self.begun:
            await answer(self.pass_on, status, "text/plain; charset=utf-8", why + "\n")


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
