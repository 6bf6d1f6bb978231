"""What a page or a request of the API sends, checked; every refusal is one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..unlearn_core import BadSetting, ForgetConfig

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
    lines = [" ".join(line.split()) for line in written(text or "", "Prompts").splitlines()]
    lines = [line for line in lines if line]
    if len(lines) > MOST_PROMPTS:
        raise BadSetting(f"At most {MOST_PROMPTS} prompts at once, not {len(lines)}: remove some.")
    for line in lines:
        if len(line) > LONGEST_PROMPT or not line.isprintable():
            raise BadSetting(f"A prompt is one line of at most {LONGEST_PROMPT} readable characters.")
    return lines


def written(value: Any, label: str) -> str:
    """`value` as a text without spaces around it, or `BadSetting`."""
    if not isinstance(value, str):
        raise BadSetting(f"{label}: write it as text.")
    return value.strip()


def number(value: Any, label: str, low: float, high: float) -> float:
    """`value` as a number within bounds, or `BadSetting`."""
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        found = float("nan")
    if not low <= found <= high:
        raise BadSetting(f"{label}: '{value}' is not a number from {low:g} to {high:g}.")
    return found


def whole(value: Any, label: str, low: int, high: int) -> int:
    """`value` as a whole number within bounds, or `BadSetting`."""
    found = number(value, label, low, high)
    if found != int(found):
        raise BadSetting(f"{label}: {'it is empty' if value in (None, '') else repr(value)}. Write a whole number.")
    return int(found)
