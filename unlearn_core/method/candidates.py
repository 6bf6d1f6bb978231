"""What could be drawn in place of a target, for an artist who wants to choose: names by text alone, and prompts."""

from __future__ import annotations

from dataclasses import dataclass

from ..config import ForgetConfig
from ..delta.stack import Stack
from ..host import HostModel
from ..words.prompts import fill
from .anchor import likely, nearest_by_text
from .request import Request

OFFERED = 6
"""Candidates that are shown."""


@dataclass(frozen=True)
class Candidate:
    """A concept that may stand in for the target, and a prompt that shows it."""

    name: str
    prompt: str


def candidates(host: HostModel, config: ForgetConfig, stack: Stack, count: int = OFFERED) -> list[Candidate]:
    """The nearest ones by their text, nearest first; a run looks at pictures as well and may reject some of them.

    Raises `BadSetting` for a request that would be refused, and `UnlearnError` where there is none.
    """
    request = Request.read(host, config, stack)
    words, kind = request.words, request.kind
    found = likely(host, request, nearest_by_text(host, request))
    thing = next(iter(request.rest.all_objects), "thing")

    def shown(name: str) -> str:
        if kind == "style":
            return fill(words.templates[0], thing, name)
        return fill(words.object_templates[0], name, "")

    return [Candidate(name, shown(name)) for name in found[:count]]
