"""Seconds until ComfyUI answers and until its first template has forgotten and drawn: `python -m` this, as JSON."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

from tests.comfy.server import Server
from tests.comfy.sources import NEWEST
from tests.comfy.workflows import shipped


def main() -> None:
    """Start the newest supported ComfyUI with this pack and press Run."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, Server(NEWEST, Path(folder)) as server, server.client() as page:
        there = time.monotonic() - begun
        page.run(shipped("Forget one concept", page.object_info()))
        done = time.monotonic() - begun - there
    rows = [("ComfyUI with this pack is there", there), ("first picture in ComfyUI after Run", done)]
    print(json.dumps([{"what": what, "seconds": round(seconds, 1)} for what, seconds in rows]))


if __name__ == "__main__":
    main()
