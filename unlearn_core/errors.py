"""What can go wrong, each with a sentence that says what to do next."""

from __future__ import annotations


class UnlearnError(Exception):
    """Something the artist can mend; the message is one sentence that says what to do next."""


class BadSetting(UnlearnError):
    """A setting is out of its bounds or contradicts another one."""


class BadDelta(UnlearnError):
    """A delta file is damaged, hostile, or does not fit the loaded model."""


class BadCheckpoint(UnlearnError):
    """A file is not a checkpoint that this tool can read."""


class TrainingFailed(UnlearnError):
    """Training produced numbers that are not finite."""


class Cancelled(UnlearnError):
    """The artist stopped the run and asked for nothing to be kept, or nothing was there to keep yet."""


def not_finite(verb: str, where: str = "") -> str:
    """The sentence about a model that gives NaN. verb: "draws" or another. where: in what."""
    place = f" {where}" if where else ""
    return (
        f"The loaded model {verb} numbers that are not finite (NaN){place}, so nothing can be learned from it: load it "
        "in full precision, or use an undamaged copy of the file."
    )
