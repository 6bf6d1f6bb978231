"""A page of gradio 3 or 4 without a browser: presses buttons as the page would, and keeps what the fields show."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

from tests.comfy.client import DIRECT


class PageClient:
    """The page at an address. `fields`: values of all fields by the ids that they have in the page's HTML.

    facts: what the page knows of each of them.
    """

    def __init__(self, address: str):
        self.address = address
        config = self.ask("/config")
        parts = {p["id"]: p["props"] for p in config["components"]}
        self.names = {i: props.get("elem_id") or f"part {i}" for i, props in parts.items()}
        self.facts = {self.names[i]: props for i, props in parts.items()}
        self.fields = {name: props.get("value") for name, props in self.facts.items()}
        self.events = config["dependencies"]

    def ask(self, path: str, body: dict | None = None) -> dict:
        """JSON of the server's answer."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json"})
        with DIRECT.open(request, timeout=60) as answer:
            return json.load(answer)

    def press(self, button: str) -> None:
        """Press a button, and whatever follows it; the fields then show the answers."""
        self.follow([i for i, e in enumerate(self.events) if [button, "click"] in self.targets(e)])

    def load(self) -> None:
        """What happens when a page is opened."""
        self.follow([i for i, e in enumerate(self.events) if "load" in [kind for _, kind in self.targets(e)]])

    def follow(self, at: list[int]) -> None:
        """Run events, and those that come after them."""
        while at:
            index = at.pop(0)
            event = self.events[index]
            names = [self.names[i] for i in event["inputs"]]
            body = {"fn_index": index, "data": [self.fields[n] for n in names], "session_hash": "a test"}
            answers = self.ask("/run/predict", body)["data"]
            for i, value in zip(event["outputs"], answers, strict=True):
                if not isinstance(value, dict):
                    self.fields[self.names[i]] = value
                elif "value" in value:
                    self.fields[self.names[i]] = value["value"]
            at += [i for i, e in enumerate(self.events) if e["trigger_after"] == index]

    def targets(self, event: dict) -> list:
        """(id in the page's HTML, kind of event) of what starts an event; gradio 3 has one kind for all."""
        pairs = [t if isinstance(t, list) else (t, event["trigger"]) for t in event["targets"]]
        return [[self.names.get(i), kind] for i, kind in pairs]

    def event(self, button: str) -> dict:
        """What a press on a button begins."""
        return next(e for e in self.events if [button, "click"] in self.targets(e))

    def output(self, button: str, place: int) -> Any:
        """What one of the fields shows that a press on a button fills, by its place among them."""
        return self.fields[self.names[self.event(button)["outputs"][place]]]
