"""Every setting of a request, with its default, bounds, unit, label and help: the only place for them.

Command line, ComfyUI inputs, the web UI tab and docs/settings.md are made from `settings()`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from .delta.info import MAX_CONCEPT
from .errors import BadSetting
from .words.compare import same_thing, share_a_word
from .words.prompt_syntax import as_it_looks

REQUEST, EDIT, TRAINING = "request", "edit", "training"
"""Groups of settings: what every artist is asked; how the edit is made and checked; what acts only if it trains."""
RENAMED = {"guard_weight": "preservation_weight"}
"""Settings of earlier versions by their names of today."""
DELETED = {"null_space"}
"""Settings of earlier versions that are no more; deltas that name them still load and can be made anew."""
CHECK_SWITCH = "check"
"""Earlier versions switched the check off with this; today it is the quality "quick"."""


def setting(default: Any, label: str, help: str, group: str = REQUEST, **facts: Any) -> Any:  # noqa: A002
    """A dataclass field that carries what a user interface needs to show it.

    facts: low, high (inclusive bounds), step, unit, choices, hidden (never shown: filled in where a wish is read).
    """
    metadata = {"label": label, "help": help, "group": group, **facts}
    if isinstance(default, tuple):
        return field(default=default, metadata={"many": True, **metadata})
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class ForgetConfig:
    """One request to forget. Frozen and hashable; raises `BadSetting` with a sentence when it makes no sense.

    concept: one bare name. `read_requests` makes these of whatever an artist types.
    """

    concept: str = setting("", "Forget", "The object, style or character that the model should no longer generate.")
    anchor: str = setting(
        "", "Draw instead", "What the model draws in its place. Empty: the nearest concept that does not show it."
    )
    keep: tuple[str, ...] = setting(
        (), "Keep", "Concepts that must stay as they are. What is similar is protected anyway; add what matters to you."
    )
    kind: str = setting(
        "auto",
        "Kind",
        "What the words name; auto decides by itself. A character is an object, a painter or a look is a style.",
        choices=("auto", "object", "style"),
    )
    quality: str = setting(
        "normal",
        "Quality",
        "How carefully the result is checked. Quick: no pictures are looked at, done in a fraction of the time. "
        "Thorough: more pictures and a stricter threshold.",
        choices=("quick", "normal", "thorough"),
    )
    seed: int = setting(
        0, "Seed", "The same seed, settings and model give the same delta.", low=0, high=2**32 - 1, step=1
    )
    force: bool = setting(
        False,
        "Go on regardless",
        "Start although the words are unclear or unknown to the model, and keep a delta that harms the rest.",
    )
    going: tuple[str, ...] = setting(
        (), "Forgotten next", "Other concepts of the same wish, which must not be preserved either.", hidden=True
    )
    closed_form: bool = setting(
        True,
        "Closed form",
        "Solve for the change directly, and train only if the concept is still there. Off: always train.",
        EDIT,
    )
    rank: int = setting(
        8,
        "Rank",
        "Rank of the delta in each layer. More makes a larger file. Left at 8, it counts as 32 for models in which all "
        "text enters through one layer.",
        EDIT,
        low=1,
        high=128,
        step=1,
    )
    overshoot: float = setting(
        -1.0,
        "Overshoot",
        "How far past what is drawn instead the concept is led, as a part of the way. -1: chosen by its kind.",
        EDIT,
        low=-1.0,
        high=10.0,
        step=0.05,
    )
    sampling_steps: int = setting(
        8,
        "Sampling steps",
        "How many steps the pictures of the check are drawn with. Take what your model needs.",
        EDIT,
        low=1,
        high=100,
        step=1,
        unit="steps",
    )
    guidance: float = setting(
        3.0,
        "Guidance",
        "Guidance scale (CFG) of the pictures of the check. Left at 3, Flux is looked at with 1, as it is drawn.",
        EDIT,
        low=1.0,
        high=30.0,
        step=0.1,
    )
    steps: int = setting(
        300,
        "Most steps",
        "Training takes at most so many steps, and ends sooner when the check no longer finds the concept. "
        "Depth and scope have their own.",
        TRAINING,
        low=1,
        high=5000,
        step=1,
        unit="steps",
    )
    on_stop: str = setting(
        "keep",
        "When stopped",
        "Keep a half-trained delta, marked as stopped, or keep nothing.",
        TRAINING,
        choices=("keep", "discard"),
    )
    learning_rate: float = setting(
        4e-3, "Learning rate", "Of the optimizer (AdamW).", TRAINING, low=1e-6, high=1e-1, step=1e-4
    )
    batch: int = setting(
        8, "Batch", "Forget prompts in a step; as many replay prompts are added.", TRAINING, low=1, high=256, step=1
    )
    layers: str = setting(
        "kv",
        "Layers",
        "Which layers are trained: kv, keys and values of attention to text; cross, all of it; attention, that within "
        "the picture as well.",
        TRAINING,
        choices=("kv", "cross", "attention"),
    )
    forget_weight: float = setting(
        1.0, "Forget weight", "How much forgetting counts in a step.", TRAINING, low=0.0, high=1000.0, step=0.1
    )
    keep_weight: float = setting(
        2.0,
        "Replay weight",
        "How much it counts in a step that other prompts stay as they are.",
        TRAINING,
        low=0.0,
        high=1000.0,
        step=0.1,
    )
    drift_weight: float = setting(
        1e-4,
        "Drift weight",
        "How much it counts that the weights stay near to what they were.",
        TRAINING,
        low=0.0,
        high=10.0,
        step=1e-5,
    )
    preservation_weight: float = setting(
        0.1,
        "Preservation weight",
        "Weight of what hundreds of other prompts feel of the change in the layers that read text.",
        TRAINING,
        low=0.0,
        high=1000.0,
        step=0.01,
    )
    latents_per_prompt: int = setting(
        1, "Latents per prompt", "Pictures drawn and reused for each prompt.", TRAINING, low=1, high=16, step=1
    )
    checkpointing: bool = setting(
        False,
        "Gradient checkpointing",
        "Less memory for a third more time; switched on by itself where memory is short.",
        TRAINING,
    )
    memory: float = setting(
        0.0,
        "Memory",
        "What the run may take on the device, in GiB; 0: what is free.",
        TRAINING,
        low=0.0,
        high=1024.0,
        step=0.5,
        unit="GiB",
    )
    # last: a workflow keeps the values of a node's widgets by their places alone
    depth: str = setting(
        "name",
        "Depth",
        "Name: the words for it no longer draw it. Deep: goes on after that, until words that are newly learned for it "
        "(textual inversion) no longer draw it either; takes many times as long, a larger delta, and needs the check.",
        EDIT,
        choices=("name", "deep"),
    )
    scope: str = setting(
        "named",
        "Scope",
        "Named: what is asked for by its name is no longer drawn. Everywhere: goes on against what appears unasked, as "
        "a watermark, a signature, a stamp or a frame does, and makes it rarer; takes many times as long, a larger "
        "delta, and needs the check.",
        EDIT,
        choices=("named", "everywhere"),
    )

    def __post_init__(self) -> None:
        for f in fields(self):
            object.__setattr__(self, f.name, check(f, getattr(self, f.name)))
        if not self.concept:
            raise BadSetting("Name the concept to forget: it is empty.")
        if self.anchor and same_thing(self.anchor, self.concept):
            raise BadSetting(
                f"'{self.concept}' cannot be replaced by itself: "
                "name something else to draw instead, or leave it empty."
            )
        if share_a_word(self.anchor, self.concept):
            raise BadSetting(
                f"'{self.anchor}' shares a word with '{self.concept}', so the word would stay tied to it: "
                "name something else to draw instead, in other words, or leave it empty."
            )
        if -1 < self.overshoot < 0:
            raise BadSetting("Overshoot: a part of the way from 0 to 10, or -1 to leave it to the concept's kind.")
        if not self.check and not self.closed_form:
            raise BadSetting(
                "Training ends when the check no longer finds the concept: choose another quality than 'quick', "
                "or leave 'Closed form' on."
            )
        if not self.closed_form and not self.forget_weight:
            raise BadSetting(
                "With 'Closed form' off and 'Forget weight' 0 nothing would be forgotten: raise 'Forget weight', or "
                "leave 'Closed form' on."
            )
        if self.depth == "deep" and not self.check:
            raise BadSetting(
                "'Deep' ends when the check no longer finds the concept: choose another quality than 'quick', "
                "or the depth 'name'."
            )
        if self.scope == "everywhere" and not self.check:
            raise BadSetting(
                "'Everywhere' ends when the check no longer sees the concept in pictures that nobody asked it for: "
                "choose another quality than 'quick', or the scope 'named'."
            )
        if self.scope == "everywhere" and self.depth == "deep":
            raise BadSetting(
                "'Everywhere' and 'Deep' cannot be asked for together: choose 'Everywhere' for what appears unasked, "
                "as a watermark does, else 'Deep'."
            )
        for word in self.keep:
            if any(same_thing(word, gone) for gone in (self.concept, *self.going)):
                raise BadSetting(f"'{word}' is to be forgotten and kept at once: take it off the keep list.")

    @property
    def check(self) -> bool:
        """Whether pictures are drawn and read: to choose the anchor, to see that the concept is gone, and the harm."""
        return self.quality != "quick"

    @classmethod
    def from_flat(cls, values: Mapping[str, Any]) -> ForgetConfig:
        """Build from names and values of any type a user interface gives (texts included).

        Names of earlier versions are understood. Raises `BadSetting`.
        """
        given = {RENAMED.get(name, name): value for name, value in values.items() if name not in DELETED}
        if CHECK_SWITCH in given and not truth_or_refuse(given.pop(CHECK_SWITCH), "Check"):
            given["quality"] = "quick"
        known = {f.name for f in fields(cls)}
        for name in given:
            if name not in known:
                shown = sorted(f.name for f in settings())
                raise BadSetting(f"There is no setting '{name}'; known are {', '.join(shown)}.")
        return cls(**given)

    def to_flat(self) -> dict[str, Any]:
        """All settings as plain JSON values; `from_flat` of it is equal to this object."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

    def deciding(self, trained: bool = True) -> dict[str, Any]:
        """`to_flat` without what only the machine is concerned with: the same of these, the same delta everywhere.

        trained: False leaves out what had no effect because the run did not train.
        """
        silent = {"memory"} if trained else {f.name for f in fields(self) if f.metadata["group"] == TRAINING}
        silent.add("force")
        if self.depth == "name":
            # what every delta is that was made before there was a choice
            silent.add("depth")
        if self.scope == "named":
            silent.add("scope")
        return {k: v for k, v in self.to_flat().items() if k not in silent}


def settings() -> tuple[dataclasses.Field, ...]:
    """All settings in the order in which a user interface shows them; hidden ones are left out."""
    return tuple(f for f in fields(ForgetConfig) if not f.metadata.get("hidden"))


def check(f: dataclasses.Field, value: Any) -> Any:
    """`value` as the type and within the bounds of field `f`, or `BadSetting`."""
    label, default = f.metadata["label"], f.default
    try:
        if isinstance(default, tuple):
            parts: Sequence[Any] = value.split(",") if isinstance(value, str) else value
            return tuple(words for part in parts if (words := clean_words(part, label)))
        if isinstance(default, bool):
            return truth(value)
        if value in (None, "") and not isinstance(default, str):
            raise BadSetting(f"{label}: it is empty, write {describe(f)}.")
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


def truth_or_refuse(value: Any, label: str) -> bool:
    """`truth` with a sentence. Raises `BadSetting`."""
    try:
        return truth(value)
    except ValueError:
        raise BadSetting(f"{label}: '{value}' is not yes or no.") from None


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
    words = " ".join(as_it_looks(value).split())
    if len(words) > MAX_CONCEPT:
        raise BadSetting(f"{label}: at most {MAX_CONCEPT} characters, not {len(words)}.")
    if any(not c.isprintable() for c in words):
        raise BadSetting(f"{label}: the text contains invisible control characters; type it again by hand.")
    return words
