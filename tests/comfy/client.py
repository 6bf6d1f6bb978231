"""Talks to a ComfyUI server as its web page does: requests, and one websocket that is read in the background."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

PREVIEW_KINDS = (1, 4)
"""Numbers of binary messages that carry a picture: plain, and with a description in front."""
PATIENCE = 1800
"""Seconds that a run may take: machines that do much else are slow, and pytest has a limit of its own."""
# Variables such as http_proxy must not send requests for this machine elsewhere.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Rejected(Exception):
    """The server refused a request; the message is what it answered, and `answer` is that as JSON or {}."""

    def __init__(self, message: str, answer: dict | None = None):
        super().__init__(message)
        self.answer = answer or {}

    def sentences(self) -> dict[str, list[str]]:
        """{node id: what its page is told of it} of a workflow that was refused before it ran."""
        errors = self.answer.get("node_errors", {})
        return {key: [e["details"] for e in found["errors"]] for key, found in errors.items()}


class NodeFailed(Exception):
    """A node raised. `details` is the whole event: node_id, node_type, exception_type, traceback, ..."""

    def __init__(self, details: dict):
        self.details = details
        where = f"{details['node_type']} (node {details['node_id']})"
        trace = "".join(details.get("traceback", ()))
        super().__init__(
            f"{where}: {details['exception_type']}: {details['exception_message'].strip()}\n{trace}".rstrip()
        )


class Interrupted(Exception):
    """The run was interrupted."""


@dataclass
class Event:
    """One message of the server; `type` is "preview" for pictures, whose bytes are in `data`."""

    type: str
    data: Any
    time: float = field(default_factory=time.monotonic)

    def of(self, prompt_id: str) -> bool:
        """Whether it says that it belongs to this run."""
        return isinstance(self.data, dict) and self.data.get("prompt_id") == prompt_id


@dataclass
class Run:
    """A run that ended well: its events, the number of previews, and each output node's output by node id."""

    prompt_id: str
    events: list[Event]
    previews: int
    outputs: dict[str, dict]

    def images(self, node: str) -> list[dict]:
        """Addresses of a node's pictures, for `Client.view`."""
        return self.outputs[node]["images"]


class Client:
    """One web page's worth of connection; a context manager."""

    def __init__(self, address: str, client_id: str | None = None):
        self.address, self.client_id = address, client_id or uuid.uuid4().hex
        self.events: list[Event] = []
        self._started: dict[str, int] = {}
        self._news = threading.Condition()
        self._problem: BaseException | None = None
        self._connected = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._read, name="ComfyUI events", daemon=True)

    def __enter__(self) -> Client:
        self._thread.start()
        self._connected.wait(30)
        if self._problem or not self._connected.is_set():
            raise ConnectionError(f"no websocket at {self.address}: {self._problem}")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._reading.cancel)
        self._thread.join(10)

    # requests

    def request(self, path: str, data: bytes | None = None, kind: str = "application/json") -> bytes:
        """GET, or POST where there is data. Raises `Rejected`."""
        request = urllib.request.Request(f"http://{self.address}{path}", data, {"Content-Type": kind} if data else {})
        try:
            with DIRECT.open(request, timeout=60) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            text = error.read().decode("utf-8", "replace")
            with contextlib.suppress(ValueError):
                raise Rejected(f"{error.code} for {path}: {text}", json.loads(text)) from None
            raise Rejected(f"{error.code} for {path}: {text}") from None

    def get(self, path: str) -> Any:
        """JSON from a path."""
        return json.loads(self.request(path))

    def post(self, path: str, data: Any) -> Any:
        """JSON to a path; its JSON answer, or None."""
        answer = self.request(path, json.dumps(data).encode())
        return json.loads(answer) if answer else None

    def object_info(self, node: str = "") -> dict:
        """The description of all nodes by their names, or of one."""
        return self.get(f"/object_info/{urllib.parse.quote(node)}") if node else self.get("/object_info")

    def queue(self, prompt: dict, client_id: str | None = None) -> str:
        """Queue a workflow in API form, as this page; its prompt id. Raises `Rejected` for an invalid one."""
        first = len(self.events)
        prompt_id = self.post("/prompt", {"prompt": prompt, "client_id": client_id or self.client_id})["prompt_id"]
        self._started[prompt_id] = first
        return prompt_id

    def history(self, prompt_id: str) -> dict:
        """What the server remembers of a run; empty while it has not ended."""
        return self.get(f"/history/{prompt_id}").get(prompt_id, {})

    def view(self, image: dict) -> bytes:
        """A picture's file by its address in an output."""
        return self.request("/view?" + urllib.parse.urlencode(image))

    def upload(self, name: str, data: bytes) -> str:
        """Put a picture into the input folder; the name for LoadImage."""
        line = uuid.uuid4().hex
        head = f'--{line}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
        body = head.encode() + b"Content-Type: application/octet-stream\r\n\r\n" + data + f"\r\n--{line}--\r\n".encode()
        return json.loads(self.request("/upload/image", body, f"multipart/form-data; boundary={line}"))["name"]

    def interrupt(self) -> None:
        """Stop what runs."""
        self.post("/interrupt", {})

    def free(self) -> None:
        """Unload the models and empty the cache of outputs before the next run."""
        # The queue's thread does it when it wakes, and a run that comes at once would be taken first. A call while it
        # tidies up after a run does not wake it; the second one does.
        for _ in range(2):
            self.post("/free", {"unload_models": True, "free_memory": True})
            time.sleep(1)

    # events

    def until(self, found: Callable[[Event], bool], timeout: float = PATIENCE, since: int = 0) -> Event:
        """The first event from number `since` on that `found` accepts. Raises `TimeoutError`, `ConnectionError`."""
        deadline, at = time.monotonic() + timeout, since
        with self._news:
            while True:
                while at < len(self.events):
                    if found(self.events[at]):
                        return self.events[at]
                    at += 1
                if self._problem:
                    raise ConnectionError(f"the websocket closed: {self._problem!r}")
                if not self._news.wait(max(0.0, min(1.0, deadline - time.monotonic()))) and time.monotonic() > deadline:
                    seen = [e.type for e in self.events[since:]][-10:]
                    raise TimeoutError(f"nothing of that kind within {timeout} s; last events: {seen}")

    def wait(self, prompt_id: str, timeout: float = PATIENCE) -> Run:
        """Wait for a queued run's end. Raises `NodeFailed`, `Interrupted`, `TimeoutError`, `ConnectionError`."""
        since = self._started[prompt_id]
        # The server says this last, after the history was written.
        last = self.until(
            lambda e: e.type == "executing" and e.of(prompt_id) and e.data["node"] is None, timeout, since
        )
        with self._news:
            events = self.events[since : self.events.index(last) + 1]
        for event in events:
            if event.type == "execution_error" and event.of(prompt_id):
                raise NodeFailed(event.data)
            if event.type == "execution_interrupted" and event.of(prompt_id):
                raise Interrupted(f"at node {event.data['node_id']}")
        outputs = self.history(prompt_id)["outputs"]
        return Run(prompt_id, events, sum(e.type == "preview" for e in events), outputs)

    def run(self, prompt: dict, timeout: float = PATIENCE) -> Run:
        """Queue a workflow and wait for its end."""
        return self.wait(self.queue(prompt), timeout)

    def _read(self) -> None:
        self._reading = self._loop.create_task(self._listen())
        try:
            self._loop.run_until_complete(self._reading)
            self._problem = ConnectionError("closed by the server")
        except asyncio.CancelledError:
            self._problem = ConnectionError("closed by this client")
        except Exception as problem:
            self._problem = problem
        finally:
            self._connected.set()
            with self._news:
                self._news.notify_all()
            self._loop.close()

    async def _listen(self) -> None:
        address = f"http://{self.address}/ws?clientId={self.client_id}"
        async with aiohttp.ClientSession() as session, session.ws_connect(address, max_msg_size=0) as socket:
            self._connected.set()
            async for message in socket:
                if message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                    event = parse(message.data)
                    with self._news:
                        self.events.append(event)
                        self._news.notify_all()


def parse(message: str | bytes) -> Event:
    """A websocket message as an event."""
    if isinstance(message, str):
        content = json.loads(message)
        return Event(content["type"], content.get("data"))
    (kind,) = struct.unpack_from(">I", message)
    if kind not in PREVIEW_KINDS:
        return Event(f"binary {kind}", message[4:])
    skip = 4
    if kind == 4:
        (length,) = struct.unpack_from(">I", message, 4)
        skip += 4 + length
    # A plain picture has the number of its format in front.
    return Event("preview", message[skip + (4 if kind == 1 else 0) :])
