"""Every setting of a request, with its default, bounds, unit, label and help: the only place for them.

Command line, ComfyUI inputs and the web UI tab are generated from `settings()`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from .delta.format import MAX_CONCEPT
from .errors import BadSetting
from .words.wish import same_thing, share_a_word


def setting(default: Any, label: str, help: str, **facts: Any) -> Any:  # noqa: A002
    """A dataclass field that carries what a user interface needs to show it.

    facts: low, high (inclusive bounds), step, unit, choices, advanced (fold it away), many (a list of texts).
    """
    metadata = {"label": label, "help": help, **facts}
    if isinstance(default, tuple):
        return field(default=default, metadata={"many": True, **metadata})
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class ForgetConfig:
    """One wish to forget. Frozen and hashable; raises `BadSetting` with a sentence when it makes no sense."""

    concept: str = setting("", "Forget", "The object, style or character that the model shall no longer draw.")
    anchor: str = setting("", "Draw instead", "What the model draws in its place. Empty: the tool chooses a neighbour.")
    keep: tuple[str, ...] = setting(
        (), "Keep", "Concepts that must survive whatever happens, beside the neighbours found."
    )
    kind: str = setting(
        "auto", "Kind", "Whether the words name a thing or a style.", choices=("auto", "object", "style")
    )
    seed: int = setting(0, "Seed", "Same seed, settings and model give the same delta.", low=0, high=2**32 - 1)
    steps: int = setting(
        300,
        "Most steps",
        "Training ends sooner when the judge says that the concept is gone.",
        low=1,
        high=5000,
        unit="steps",
    )
    on_stop: str = setting(
        "keep",
        "When stopped",
        "Keep a marked, half-trained delta or nothing.",
        choices=("keep", "discard"),
        advanced=True,
    )
    rank: int = setting(8, "Rank", "Size of the delta.", low=1, high=128, advanced=True)
    learning_rate: float = setting(4e-3, "Learning rate", "Of AdamW.", low=1e-6, high=1e-1, advanced=True)
    batch: int = setting(
        8, "Batch", "Forget prompts in a step; as many replay prompts come on top.", low=1, high=256, advanced=True
    )
    layers: str = setting(
        "kv",
        "Layers",
        "Which layers learn: keys and values of cross-attention, all of cross-attention, or all attention.",
        choices=("kv", "cross", "attention"),
        advanced=True,
    )
    forget_weight: float = setting(
        1.0, "Forget weight", "w_u, weight of re-steering.", low=0.0, high=1000.0, advanced=True
    )
    overshoot: float = setting(
        -1.0,
        "Overshoot",
        "How far past its replacement the concept is steered, as a part of the way; -1: by its kind and what it needs.",
        low=-1.0,
        high=10.0,
        advanced=True,
    )
    keep_weight: float = setting(2.0, "Keep weight", "w_p, weight of replay.", low=0.0, high=1000.0, advanced=True)
    drift_weight: float = setting(
        1e-4, "Drift weight", "w_r, weight of the squared change of the weights.", low=0.0, high=10.0, advanced=True
    )
    guard_weight: float = setting(
        0.1,
        "Guard weight",
        "Weight of the change that hundreds of other words feel in the layers that read text.",
        low=0.0,
        high=1000.0,
        advanced=True,
    )
    null_space: float = setting(
        0.0,
        "Null space",
        "Learn only in directions that kept words do not share, this strictly; 0 switches it off.",
        low=0.0,
        high=1e6,
        advanced=True,
    )
    closed_form: bool = setting(
        True, "In one go", "Solve for the change at once, and train only if the concept is still drawn.", advanced=True
    )
    sampling_steps: int = setting(
        8, "Sampling steps", "Euler steps of the teacher's own pictures.", low=1, high=100, unit="steps", advanced=True
    )
    latents_per_prompt: int = setting(
        1, "Latents a prompt", "Teacher's pictures drawn for each prompt and reused.", low=1, high=16, advanced=True
    )
    guidance: float = setting(
        3.0, "Guidance", "Guidance of the judge's and the preview's pictures.", low=1.0, high=30.0, advanced=True
    )
    checkpointing: bool = setting(
        False,
        "Gradient checkpointing",
        "Less memory for a third more time; switched on by itself where memory is short.",
        advanced=True,
    )
    memory: float = setting(
        0.0,
        "Memory",
        "What the job may take on the device; 0: what is free.",
        low=0.0,
        high=1024.0,
        unit="GiB",
        advanced=True,
    )
    check: bool = setting(
        True,
        "Check",
        "Draw and read pictures: to choose the replacement, to see that the concept is gone, to say what was harmed. "
        "Off: a fraction of the time, and nobody has looked.",
        advanced=True,
    )

    def __post_init__(self) -> None:
        for f in fields(self):
            object.__setattr__(self, f.name, check(f, getattr(self, f.name)))
        if not self.concept:
            raise BadSetting("Name the concept to forget: it is empty.")
        if self.anchor and same_thing(self.anchor, self.concept):
            raise BadSetting(f"'{self.concept}' cannot be replaced by itself: choose another anchor or leave it empty.")
        if share_a_word(self.anchor, self.concept):
            raise BadSetting(
                f"'{self.anchor}' shares a word with '{self.concept}', so the word would stay tied to it: "
                "name something else to draw instead, in other words, or leave it empty."
            )
        if not self.check and (self.null_space or not self.closed_form):
            raise BadSetting(
                "Training ends when the check finds the concept gone: leave Check on, or choose In one go."
            )
        for word in self.keep:
            if same_thing(word, self.concept):
                raise BadSetting(f"'{word}' is to be forgotten and kept at once: take it off the keep list.")

    @classmethod
    def from_flat(cls, values: Mapping[str, Any]) -> ForgetConfig:
        """Build from names and values of any type a user interface gives (texts included)."""
        known = {f.name for f in fields(cls)}
        for name in values:
            if name not in known:
                raise BadSetting(f"There is no setting '{name}'; known are {', '.join(sorted(known))}.")
        return cls(**values)

    def to_flat(self) -> dict[str, Any]:
        """All settings as plain JSON values; `from_flat` of it is equal to this object."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

    def deciding(self) -> dict[str, Any]:
        """`to_flat` without what only the machine is concerned with: the same of these, the same delta everywhere."""
        return {k: v for k, v in self.to_flat().items() if k != "memory"}


def settings() -> tuple[dataclasses.Field, ...]:
    """All settings in the order in which a user interface shows them."""
    return fields(ForgetConfig)


def check(f: dataclasses.Field, value: Any) -> Any:
    """`value` as the type and within the bounds of field `f`, or `BadSetting`."""
    label, default = f.metadata["label"], f.default
    try:
        if isinstance(default, tuple):
            parts: Sequence[Any] = value.split(",") if isinstance(value, str) else value
            return tuple(words for part in parts if (words := clean_words(part, label)))
        if isinstance(default, bool):
            return truth(value)
        if isinstance(default, int):
            if float(value) != int(float(value)):
                raise ValueError
            value = int(float(value))
        elif isinstance(default, float):
            value = float(value)
        else:
            value = clean_words(value, label)
    except (TypeError, ValueError, OverflowError):
        raise BadSetting(f"{label}: '{value}' is not {describe(f)}.") from None
    low, high = f.metadata.get("low"), f.metadata.get("high")
    if low is not None and not low <= value <= high:
        raise BadSetting(f"{label}: {value} is not {describe(f)}.")
    if (choices := f.metadata.get("choices")) and value not in choices:
        raise BadSetting(f"{label}: '{value}' is not {describe(f)}.")
    return value


def describe(f: dataclasses.Field) -> str:
    """What a value of field `f` has to be, in words."""
    if choices := f.metadata.get("choices"):
        return "one of " + ", ".join(choices)
    if isinstance(f.default, bool):
        return "yes or no"
    kind = "a whole number" if isinstance(f.default, int) else "a number"
    return f"{kind} from {f.metadata.get('low')} to {f.metadata.get('high')}"


def truth(value: Any) -> bool:
    """True or False from a bool or the usual words."""
    if isinstance(value, str):
        word = value.strip().casefold()
        if word in {"1", "true", "yes", "on"}:
            return True
        if word in {"0", "false", "no", "off"}:
            return False
        raise ValueError
    if value in (0, 1):
        return bool(value)
    raise ValueError


def clean_words(value: Any, label: str) -> str:
    """One line of words: white space folded, control and direction marks refused."""
    if not isinstance(value, str):
        raise TypeError
    words = " ".join(value.split())
    if len(words) > MAX_CONCEPT:
        raise BadSetting(f"{label}: at most {MAX_CONCEPT} characters, not {len(words)}.")
    if any(not c.isprintable() for c in words):
        raise BadSetting(f"{label}: the text contains invisible control characters; type it again by hand.")
    return words
