"""What a page or a request of the API sends, checked; every refusal is one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..unlearn_core import BadSetting, ForgetConfig
from ..unlearn_core.words.prompt_syntax import as_it_looks

MOST_PROMPTS, LONGEST_PROMPT = 16, 500
WORDS = ("concept", "anchor", "keep")
"""Settings that an artist writes in words."""


def form_of(config: ForgetConfig, values: Mapping[str, Any]) -> dict[str, Any]:
    """What a page's form holds of a request: its words as they were typed, and all else as the core has read it.

    The API may be sent texts for numbers and switches, which no field takes.
    """
    return {**config.to_flat(), **{name: as_typed(values.get(name)) for name in WORDS}}


def as_typed(words: Any) -> str:
    """The words of a field as a form has them; "" for what is none."""
    if isinstance(words, (list, tuple)):
        return ", ".join(map(str, words))
    return words if isinstance(words, str) else ""


def read_prompts(text: str) -> list[str]:
    """One prompt a line, white space folded. Raises `BadSetting`."""
    lines = [" ".join(line.split()) for line in as_it_looks(written(text or "", "Prompts")).splitlines()]
    lines = [line for line in lines if line]
    if len(lines) > MOST_PROMPTS:
        raise BadSetting(f"At most {MOST_PROMPTS} prompts at once, not {len(lines)}: remove some.")
    for number, line in enumerate(lines, 1):
        if len(line) > LONGEST_PROMPT:
            raise BadSetting(f"Prompt {number} has {len(line)} characters: at most {LONGEST_PROMPT} are read.")
        if not line.isprintable():
            raise BadSetting(f"Prompt {number} holds invisible control characters: type it again by hand.")
    return lines


def written(value: Any, label: str) -> str:
    """`value` as a text without spaces around it, or `BadSetting`."""
    if not isinstance(value, str):
        raise BadSetting(f"{label}: write it as text.")
    return value.strip()


def number(value: Any, label: str, low: float, high: float) -> float:
    """`value` as a number within bounds, or `BadSetting`."""
    if value in (None, ""):
        raise BadSetting(f"{label}: it is empty. Write a number from {plain(low)} to {plain(high)}.")
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        found = float("nan")
    if not low <= found <= high:
        raise BadSetting(f"{label}: '{value}' is not a number from {plain(low)} to {plain(high)}.")
    return found


def whole(value: Any, label: str, low: int, high: int) -> int:
    """`value` as a whole number within bounds, or `BadSetting`."""
    found = number(value, label, low, high)
    if found != int(found):
        raise BadSetting(f"{label}: {value!r}. Write a whole number.")
    return int(found)


def plain(bound: float) -> str:
    """A number as people write it."""
    return str(int(bound)) if bound == int(bound) else f"{bound:g}"
