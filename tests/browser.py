"""Headless Chromium over its debugging protocol: one page, its console, its mouse, its picture."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
QUIET = ("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync")
# root may not use the sandbox, and a container's shared memory is too small for pages
ALONE = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic")
# a page that asks for something outside fails at once, on every machine in the same way
OFFLINE = ("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",)

BOX = """(e => {
  e.scrollIntoView({block: 'center', behavior: 'instant'});
  const b = e.getBoundingClientRect();
  return [b.x, b.y, b.width, b.height];
})(%s)"""


def chromium() -> str | None:
    """The browser's program, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


IN_A_BROWSER = pytest.mark.skipif(chromium() is None, reason="there is no Chromium on this machine")
"""For tests of pages."""


class PageError(Exception):
    """A script raised in the page."""


class Browser:
    """A context manager. `problems` are texts of console errors and uncaught exceptions, with their addresses.

    `requests` are the addresses of all that pages have asked for, sockets too.
    """

    def __init__(self, folder: Path, size: tuple[int, int] = (1600, 1000)):
        self.folder, self.size = folder, size
        self.problems: list[str] = []
        self.requests: list[str] = []
        self._loop = asyncio.new_event_loop()
        self._last = 0

    def __enter__(self) -> Browser:
        width, height = self.size
        places = [f"--user-data-dir={self.folder}", "--remote-debugging-port=0", f"--window-size={width},{height}"]
        with open(self.folder / "chromium.log", "wb") as log:
            self._process = subprocess.Popen(
                [chromium(), *ALONE, *QUIET, *OFFLINE, *places, "about:blank"], stdout=log, stderr=subprocess.STDOUT
            )
        try:
            self._loop.run_until_complete(self._connect())
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.call(f"{domain}.enable")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(Exception):
            self._loop.run_until_complete(self._session.close())
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._loop.close()

    def call(self, method: str, **parameters: Any) -> dict:
        """One command of the protocol and its answer."""
        return self._loop.run_until_complete(asyncio.wait_for(self._call(method, parameters), 120))

    def goto(self, address: str) -> None:
        """Open a page; `until` tells when it is ready."""
        self.call("Page.navigate", url=address)

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression, awaited where it is a promise. Raises `PageError`."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if details := answer.get("exceptionDetails"):
            raise PageError(details.get("exception", {}).get("description", details["text"]))
        return answer["result"].get("value")

    def until(self, script: str, timeout: float = 120, pause: float = 0.25) -> Any:
        """The first value of an expression that is true. Raises `TimeoutError`."""
        deadline = time.monotonic() + timeout
        while not (value := self.evaluate(script)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not true within {timeout} s: {script}")
            time.sleep(pause)
        return value

    def at_rest(self, element: str, timeout: float = 30) -> list[float]:
        """[x, y, width, height] in the window of an element (an expression), in view and no longer being moved.

        Raises `TimeoutError`.
        """
        deadline, seen = time.monotonic() + timeout, None
        while (now := self.evaluate(BOX % element)) != seen:
            if time.monotonic() > deadline:
                raise TimeoutError(f"not at rest within {timeout} s: {element}")
            seen = now
            time.sleep(0.5)
        return seen

    def drag(self, start: tuple[float, float], end: tuple[float, float], moves: int = 8) -> None:
        """Press the left button at one point of the window, move, and let it go at another."""
        (x, y), (to_x, to_y) = start, end
        self.mouse("mousePressed", x, y)
        for i in range(1, moves + 1):
            self.mouse("mouseMoved", x + (to_x - x) * i / moves, y + (to_y - y) * i / moves)
        self.mouse("mouseReleased", to_x, to_y)

    def mouse(self, kind: str, x: float, y: float) -> None:
        """One event of the mouse with its left button."""
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    def click(self, selector: str) -> None:
        """Press the left button in the middle of the first element that a CSS selector finds, scrolled into view."""
        x, y, width, height = self.evaluate(BOX % f"document.querySelector({json.dumps(selector)})")
        x, y = x + width / 2, y + height / 2
        self.mouse("mousePressed", x, y)
        self.mouse("mouseReleased", x, y)

    def fill(self, selector: str, text: str) -> None:
        """Replace what a text or number field holds by typing, and leave the field."""
        self.evaluate(f"(e => {{ e.focus(); e.select(); }})(document.querySelector({json.dumps(selector)}))")
        self.call("Input.insertText", text=text)
        self.evaluate("document.activeElement.blur()")

    def resize(self, width: int, height: int) -> None:
        """Give the page another size in pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def screenshot(self, file: Path, whole: bool = False) -> Path:
        """What the window shows, as PNG. whole: all of the page, also what has to be scrolled to."""
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole, **self._clip(whole))
        file.write_bytes(base64.b64decode(answer["data"]))
        return file

    def _clip(self, whole: bool) -> dict[str, Any]:
        if not whole:
            return {}
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {**size, "scale": 1}}

    async def _connect(self) -> None:
        port = self.folder / "DevToolsActivePort"
        for _ in range(600):
            if port.exists() and (lines := port.read_text().split()):
                break
            if self._process.poll() is not None:
                raise ConnectionError((self.folder / "chromium.log").read_text("utf-8", "replace")[-2000:])
            await asyncio.sleep(0.1)
        else:
            raise ConnectionError("the browser did not open its debugging port")
        self._session = aiohttp.ClientSession()
        async with self._session.get(f"http://127.0.0.1:{lines[0]}/json/list") as answer:
            (page,) = [p for p in await answer.json() if p["type"] == "page"]
        self._socket = await self._session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0)

    async def _call(self, method: str, parameters: dict) -> dict:
        self._last += 1
        await self._socket.send_json({"id": self._last, "method": method, "params": parameters})
        while True:
            message = json.loads(await self._socket.receive_str())
            if message.get("id") == self._last:
                if "error" in message:
                    raise PageError(f"{method}: {message['error']['message']}")
                return message["result"]
            self._note(message.get("method"), message.get("params", {}))

    def _note(self, event: str | None, about: dict) -> None:
        if event == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])
        elif event == "Network.webSocketCreated":
            self.requests.append(about["url"])
        elif event == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(about["exceptionDetails"]))
        elif (event == "Runtime.consoleAPICalled" and about["type"] == "error") or (
            event == "Log.entryAdded" and about["entry"]["level"] == "error"
        ):
            self.problems.append(json.dumps(about))
