"""Talks to a running Automatic1111 or one of its relatives over its HTTP API."""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

import numpy as np
from PIL import Image

PATIENCE = 3600
"""Seconds for one answer: a picture waits for a whole training."""
FINISHED = ("done", "stopped", "failed")
# Variables such as http_proxy must not send requests for this machine elsewhere.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Webui:
    """One web UI that was started with `--api`. picture: settings of txt2img that all pictures share."""

    def __init__(self, address: str, **picture: Any):
        self.address, self.picture = address.rstrip("/"), picture

    def call(self, path: str, body: Any = None, timeout: float = PATIENCE) -> Any:
        """The JSON answer, our routes' refusals too; a body makes it a POST. Raises `OSError`."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json"})
        try:
            with DIRECT.open(request, timeout=timeout) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as e:
            if not (path.startswith("/unlearn/") and 400 <= e.code < 500):
                raise
            with e:
                refusal = json.load(e)
            if "error" not in refusal:
                raise
            return refusal

    def status(self, path: str, body: Any = None, **headers: str) -> int:
        """The answer's status to a request with these headers alone; a body makes it a POST, `_` in a name is `-`."""
        place = urllib.parse.urlsplit(self.address).netloc
        connection = http.client.HTTPConnection(place, timeout=60)
        data = None if body is None else json.dumps(body).encode()
        names = {"host": place, **{name.replace("_", "-"): value for name, value in headers.items()}}
        connection.putrequest("GET" if data is None else "POST", path, skip_host=True, skip_accept_encoding=True)
        for name, value in {**names, **({} if data is None else {"content-length": str(len(data))})}.items():
            connection.putheader(name, value)
        connection.endheaders(data)
        with contextlib.closing(connection):
            return connection.getresponse().status

    def progress(self) -> dict:
        """What the host's own progress bar shows."""
        return self.call("/sdapi/v1/progress?skip_current_image=true", timeout=60)

    def has(self, path: str) -> bool:
        """Whether a route is there."""
        try:
            self.call(path, timeout=60)
        except urllib.error.HTTPError as e:
            return e.code != 404
        return True

    def draw(self, prompt: str, **more: Any) -> list[Image.Image]:
        """txt2img's pictures, RGB."""
        answer = self.call("/sdapi/v1/txt2img", {"prompt": prompt, **self.picture, **more})
        images = answer["images"][-more.get("batch_size", 1) :]
        return [Image.open(io.BytesIO(base64.b64decode(i.split(",", 1)[-1]))).convert("RGB") for i in images]

    def weights(self) -> str | None:
        """A hash of the model's weights, or None without the extension in `probe`."""
        if not self.has("/unlearn_probe/weights"):
            return None
        return self.call("/unlearn_probe/weights")["sha256"]

    def forget(self, concept: str, **settings: Any) -> str:
        """Begin to forget; the job's id. Raises `RuntimeError` with the refusal."""
        answer = self.call("/unlearn/forget", {"concept": concept, **settings})
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["id"]

    def job(self, job: str) -> dict:
        """The job's state."""
        return self.call(f"/unlearn/job/{job}", timeout=120)

    def until(self, job: str, *phases: str, pause: float = 0.5) -> dict:
        """The job's state once it is in one of the phases, or has ended."""
        while (view := self.job(job))["state"] not in FINISHED and view["phase"] not in phases:
            time.sleep(pause)
        return view


def same(a: Image.Image, b: Image.Image) -> bool:
    """Whether two pictures are the same to the bit."""
    return a.size == b.size and a.tobytes() == b.tobytes()


def distance(a: Image.Image, b: Image.Image) -> float:
    """Mean difference of two pictures' values, 0..255."""
    return float(np.abs(np.asarray(a, np.float32) - np.asarray(b, np.float32)).mean())
