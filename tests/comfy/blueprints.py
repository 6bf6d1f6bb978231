"""The nodes of `subgraphs/`: several of the pack's nodes as one, which ComfyUI lists beside its own blueprints.

usage: python -m tests.comfy.blueprints   writes the files anew; a test compares them with what this would write.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from tests.comfy.templates import Page
from unlearn_core import settings

FOLDER = Path(__file__).resolve().parents[2] / "subgraphs"
NAME = "Forget and save"
ASKED = ("concept", "anchor", "keep", "quality")
KINDS = {"quality": "COMBO", "strength": "FLOAT"}
"""Types of widgets that hold no text."""
WITHIN, WITHOUT = -10, -20
"""Numbers that a subgraph's own inputs and outputs have as ends of links."""
LINK = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")


def identifier(name: str) -> str:
    """The same for the same name in every file that is made."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"unlearn-deltas/{name}"))


@dataclass
class Inside:
    """The nodes of a subgraph and what of them is seen from outside, in this order."""

    page: Page
    inputs: list[dict] = field(default_factory=list)
    outputs: list[dict] = field(default_factory=list)

    def __post_init__(self):
        self.links = [dict(zip(LINK, link, strict=True)) for link in self.page.links]

    def input(self, node: int, slot: int) -> None:
        """Show an input of a node."""
        end = self.page.nodes[node - 1]["inputs"][slot]
        end["link"] = self.linked((WITHIN, len(self.inputs)), (node, slot), end["type"])
        self.inputs.append(self.shown("input", end, end["link"]))

    def output(self, node: int, slot: int) -> None:
        """Show an output of a node."""
        end = self.page.nodes[node - 1]["outputs"][slot]
        link = self.linked((node, slot), (WITHOUT, len(self.outputs)), end["type"])
        end["links"].append(link)
        self.outputs.append(self.shown("output", end, link))

    def label(self, node: int, widget: str, kind: str, text: str) -> None:
        """Name a widget as its node does; outside the subgraph the page would show its key."""
        ends = self.page.nodes[node - 1]["inputs"]
        ends.append({"label": text, "name": widget, "type": kind, "widget": {"name": widget}, "link": None})

    def linked(self, origin: tuple[int, int], target: tuple[int, int], kind: str) -> int:
        """A new link between two (node, slot); its number."""
        number = len(self.links) + 1
        self.links.append(dict(zip(LINK, (number, *origin, *target, kind), strict=True)))
        return number

    def shown(self, side: str, end: dict, link: int) -> dict:
        """An end as the subgraph has it."""
        name = identifier(f"{NAME} {side} {end['name']}")
        return {"id": name, "name": end["name"], "type": end["type"], "linkIds": [link]}

    def saved(self, description: str) -> dict:
        """The definition."""
        last = {"lastNodeId": len(self.page.nodes), "lastLinkId": len(self.links)}
        return {
            "id": identifier(NAME),
            "version": 1,
            "state": {"lastGroupId": 0, **last, "lastRerouteId": 0},
            "revision": 0,
            "config": {},
            "name": NAME,
            "inputNode": {"id": WITHIN, "bounding": [-220, 60, 120, 100]},
            "outputNode": {"id": WITHOUT, "bounding": [820, 60, 120, 100]},
            "inputs": self.inputs,
            "outputs": self.outputs,
            "widgets": [],
            "nodes": self.page.nodes,
            "groups": [],
            "links": self.links,
            "extra": {},
            "category": "unlearning",
            "description": description,
        }


def forget_and_save() -> dict:
    """Forget Concept and Save Delta as one node: MODEL, CLIP and VAE go in; MODEL, pictures and report come out."""
    page = Page()
    forget = page.add("UnlearnForgetConcept", 0, 0, concept="banana")
    save = page.add("UnlearnSaveDelta", 400, 300, {"stack": (forget, 1), "picture": (forget, 2)})
    inside = Inside(page)
    for slot in (0, 1, 2):
        inside.input(forget, slot)
    for slot in (0, 2, 3):
        inside.output(forget, slot)
    shown = [(forget, f.name, f.metadata["label"]) for f in settings() if f.name in ASKED]
    shown += [(forget, "strength", "Strength"), (save, "name", "Name")]
    for node, widget, text in shown:
        inside.label(node, widget, KINDS.get(widget, "STRING"), text)
    outer = {
        "id": 1,
        "type": identifier(NAME),
        "pos": [0, 0],
        "size": [300, 260],
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": [{"name": e["name"], "type": e["type"], "link": None} for e in inside.inputs],
        "outputs": [{"name": e["name"], "type": e["type"], "links": []} for e in inside.outputs],
        "properties": {"proxyWidgets": [[str(node), widget] for node, widget, _ in shown]},
        "widgets_values": [],
        "title": NAME,
    }
    ends = {"revision": 0, "last_node_id": 1, "last_link_id": 0, "version": 0.4, "extra": {}}
    definition = inside.saved("Forget a concept, and save the delta as a LoRA.")
    return {"nodes": [outer], "links": [], **ends, "definitions": {"subgraphs": [definition]}}


def blueprints() -> dict[str, dict]:
    """{file name without ending: what is in the file}."""
    return {NAME: forget_and_save()}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, page in blueprints().items():
        (FOLDER / f"{name}.json").write_text(json.dumps(page, indent=1) + "\n", "utf-8", newline="\n")
