"""What lies beside a checkpoint and corrects it, read as if a stranger had made it: bounds for every number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import BadCheckpoint
from ..untrusted import Unreadable, read_json, read_text

MAX_YAML, MAX_CONFIG = 256 * 1024, 1024 * 1024
MAX_EVENTS, MAX_DEPTH, MAX_SCALAR = 20_000, 20, 1000


def read_yaml(file: Path) -> dict[str, Any]:
    """`model.params` of an LDM configuration, {} where there is no file. Raises `BadCheckpoint`."""
    if not file.is_file():
        return {}
    import yaml

    try:
        text = read_text(file, MAX_YAML)
        check_yaml(text)
        return dict(yaml.safe_load(text)["model"]["params"])
    except Unreadable as e:
        raise BadCheckpoint(f"{file.name} beside the checkpoint cannot be used: {e}; mend or remove it.") from e
    except (OSError, KeyError, TypeError, ValueError, RecursionError, OverflowError, yaml.YAMLError) as e:
        raise BadCheckpoint(
            f"{file.name} beside the checkpoint is not a model configuration; mend or remove it ({told(e)})."
        ) from e


def check_yaml(text: str) -> None:
    """Raise `Unreadable` for aliases, long values and deep nesting, with which a small text becomes a huge one."""
    import yaml

    depth = 0
    for number, event in enumerate(yaml.parse(text, Loader=yaml.SafeLoader)):
        if isinstance(event, yaml.AliasEvent):
            raise Unreadable("it repeats parts of itself (aliases), which no configuration needs")
        if isinstance(event, yaml.ScalarEvent) and len(event.value) > MAX_SCALAR:
            raise Unreadable(f"it holds a value of more than {MAX_SCALAR} characters")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH or number > MAX_EVENTS:
            raise Unreadable("it is nested deeper or has more entries than any configuration")


def told(error: Exception) -> str:
    """A library's error in a few words."""
    return f"{type(error).__name__}: {error}"[:200]


class Settings:
    """Names and values that somebody wrote, each asked for with its bounds. Raises `BadCheckpoint`.

    where: the file in a sentence.
    """

    def __init__(self, values: Any, where: str):
        if not isinstance(values, Mapping):
            raise BadCheckpoint(f"{where} is not a table of names and values; mend or remove it.")
        self.values, self.where = values, where

    def refuse(self, name: str, wanted: str) -> BadCheckpoint:
        """The sentence for a value that is not what it should be."""
        shown = repr(self.values.get(name))[:60]
        return BadCheckpoint(f"{self.where} says {name}: {shown}, which is not {wanted}; mend or remove it.")

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """A finite number from `low` to `high`."""
        value = self.values.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise self.refuse(name, f"a number from {low:g} to {high:g}")
        return float(value)

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        value = self.values.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.refuse(name, f"a whole number from {low} to {high}")
        return value

    def each(self, name: str, default: int, count: int, high: int) -> tuple[int, ...]:
        """A whole number for each of `count` levels, given as one or as a list."""
        value = self.values.get(name)
        if not isinstance(value, (list, tuple)):
            return (self.whole(name, default, 1, high),) * count
        if len(value) != count or not all(type(v) is int and 1 <= v <= high for v in value):
            raise self.refuse(name, f"{count} whole numbers from 1 to {high}")
        return tuple(value)

    def flag(self, name: str) -> bool:
        """Yes or no, no where nothing is said."""
        value = self.values.get(name)
        if value is None or isinstance(value, bool):
            return bool(value)
        raise self.refuse(name, "true or false")

    def one_of(self, name: str, default: str, known: Sequence[str]) -> str:
        """One of a few words."""
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, str) or value not in known:
            raise self.refuse(name, f"one of {', '.join(known)}")
        return value

    def text(self, name: str) -> str:
        """A short word, "" where nothing is said."""
        value = self.values.get(name)
        if value is None or (isinstance(value, str) and len(value) < MAX_SCALAR):
            return value or ""
        raise self.refuse(name, "a short text")

    def inside(self, *names: str) -> Settings:
        """A table in the table, {} where it is not there."""
        found = self
        for name in names:
            value = found.values.get(name)
            found = Settings({} if value is None else value, f"{found.where}, {name},")
        return found


def read_settings(file: Path, where: str) -> Settings:
    """A folder's JSON configuration. Raises `BadCheckpoint`."""
    try:
        return Settings(read_json(file, MAX_CONFIG), where)
    except Unreadable as e:
        raise BadCheckpoint(f"{where} cannot be read: {e}; copy or download it again.") from e
    except OSError as e:
        raise BadCheckpoint(
            f"{where} cannot be read ({e.strerror or 'no such file'}); copy or download it again."
        ) from e
