"""What can be known of a workflow before it runs: ComfyUI asks each node, and shows the answer on it.

ComfyUI tells a node only its own inputs, and one that it is asked about loses ComfyUI's own checks of bounds and
choices. So the nodes ask for one text each, and find all else in the workflow as it was sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import PureWindowsPath
from typing import Any

from server import PromptServer

from ..unlearn_core import Stack, UnlearnError
from ..unlearn_core.demo.recognition import CHECKPOINT
from ..unlearn_core.method.request import check_not_gone
from .schema import requests_from

FORGET, DEMO = "UnlearnForgetConcept", "UnlearnLoadDemoModel"
DEMO_WORDS = str(CHECKPOINT.with_suffix(".words.json"))
FILE_INPUTS = ("ckpt_name", "unet_name", "model_name")
"""Inputs in which loaders of a MODEL have the file's name."""

Nodes = Mapping[str, Any]
"""{node id: {class_type, inputs}}, as the page sends a workflow."""


@dataclass(frozen=True)
class Sent:
    """A workflow as it was sent, and what was found out about its Forget Concepts: {node id: sentence or ""}.

    wishes: {node id: its concepts}, of those that can be read. targets: ids of the nodes that alone are to run with
    what they need; None where all are.
    """

    nodes: Nodes
    targets: tuple[str, ...] | None = None
    found: dict[str, str] = field(default_factory=dict)
    wishes: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def about(self, key: str) -> str:
        """Why the Forget Concept of this id cannot run, or "": its own request, or one of the same chain."""
        if own := self.own(key):
            return own
        for other in self.chain(key):
            if problem := self.own(other):
                title = self.nodes[other].get("_meta", {}).get("title") or "Forget Concept"
                return f"Not started, because '{title}' (node {other}) of the same chain cannot run: {problem}"
        return ""

    def own(self, key: str) -> str:
        """What speaks against one node's own request, or ""."""
        if key not in self.found:
            # also where the workflow goes in a circle, which the host refuses
            self.found[key] = ""
            try:
                self.wishes[key] = self.read(key)
            except UnlearnError as problem:
                self.found[key] = str(problem)
        return self.found[key]

    def read(self, key: str) -> tuple[str, ...]:
        """The concepts of a node; () where its words, or "Go on regardless", come by a link. Raises `BadSetting`."""
        inputs = self.nodes[key]["inputs"]
        if isinstance(inputs.get("concept"), list) or isinstance(inputs.get("force"), list):
            return ()
        settings = inputs.get("settings")
        further = self.nodes.get(settings[0], {}).get("inputs", {}) if isinstance(settings, list) else {}
        wish, configs = requests_from(self.words_file(key), Stack(), literals(inputs), literals(further))
        earlier = self.earlier(key)
        for config in configs:
            check_not_gone(config.concept, config.anchor, earlier)
        return wish.concepts

    def earlier(self, key: str) -> list[str]:
        """Concepts of the Forget Concepts below a node that act, as far as they can be read."""
        found: list[str] = []
        for other in above(self.nodes, key):
            part = self.nodes[other]
            if part.get("class_type") == FORGET and not switched_off(part["inputs"]) and not self.own(other):
                found += self.wishes.get(other, ())
        return found

    def words_file(self, key: str) -> str | None:
        """The word list of the checkpoint that a node's MODEL comes from."""
        kinds = {self.nodes[other].get("class_type") for other in above(self.nodes, key)}
        return DEMO_WORDS if DEMO in kinds else None

    def chain(self, key: str) -> list[str]:
        """Other Forget Concepts on the way of a node's MODEL that are to run, before and after it."""
        wanted = self.nodes if self.targets is None else needed(self.nodes, self.targets)
        forgets = [k for k in wanted if self.nodes[k].get("class_type") == FORGET and k != key]
        before = set(above(self.nodes, key))
        return [k for k in forgets if k in before or key in above(self.nodes, k)]


SENT: ContextVar[Sent | None] = ContextVar("workflow as it was sent", default=None)


def remember(data: Any) -> Any:
    """Keep the workflow for the questions that ComfyUI asks next, in the same task."""
    nodes = data.get("prompt") if isinstance(data, dict) else None
    # what is no workflow is refused by ComfyUI itself
    sound = isinstance(nodes, dict) and all(
        isinstance(part, dict) and isinstance(part.get("inputs"), dict) for part in nodes.values()
    )
    targets = data.get("partial_execution_targets") if sound else None
    SENT.set(Sent(nodes, tuple(map(str, targets)) if isinstance(targets, list) else None) if sound else None)
    return data


def about(key: str) -> str:
    """Why the Forget Concept of this id cannot run, or ""; see `Sent.about`."""
    sent = SENT.get()
    return sent.about(key) if sent and key in sent.nodes else ""


def listen() -> None:
    """Have each workflow shown before it is checked; nothing where no server runs."""
    server = getattr(PromptServer, "instance", None)
    if server is not None and remember not in server.on_prompt_handlers:
        server.add_on_prompt_handler(remember)


def literals(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs that are typed into the node; the others are links, [node id, output]."""
    return {name: value for name, value in inputs.items() if not isinstance(value, list)}


def switched_off(inputs: Mapping[str, Any]) -> bool:
    """Whether a node's strength is typed as 0, with which its concept stays; one that comes by a link is not known."""
    strength = inputs.get("strength")
    return isinstance(strength, (int, float)) and strength == 0


def above(nodes: Nodes, key: str) -> Iterator[str]:
    """Ids of the nodes that a node's MODEL goes through, from the nearest to its loader."""
    seen: set[str] = set()
    while True:
        link = nodes.get(key, {}).get("inputs", {}).get("model")
        if not isinstance(link, list) or not link or link[0] not in nodes or link[0] in seen:
            return
        key = link[0]
        seen.add(key)
        yield key


def needed(nodes: Nodes, targets: Iterable[str]) -> set[str]:
    """Ids of these nodes and of all that they get something from."""
    found: set[str] = set()
    waiting = [key for key in targets if key in nodes]
    while waiting:
        key = waiting.pop()
        if key not in found:
            found.add(key)
            links = [v for v in nodes[key].get("inputs", {}).values() if isinstance(v, list) and v]
            waiting += [str(v[0]) for v in links if str(v[0]) in nodes]
    return found


def sent_nodes(hidden: Any) -> Nodes:
    """The workflow as it was sent: ComfyUI hands on only those inputs that a node has today. hidden: of a node."""
    known = hidden.dynprompt
    return {key: known.get_node(key) for key in known.all_node_ids()} if known else {}


def checkpoint_name(nodes: Nodes, key: str) -> str:
    """The name of the file that a node's MODEL was loaded from, without its folder, or ""."""
    for loader in above(nodes, key):
        for name in FILE_INPUTS:
            value = nodes[loader].get("inputs", {}).get(name)
            if isinstance(value, str) and value:
                return PureWindowsPath(value).name
    return ""
