"""What can go wrong, each with a sentence that says what to do next."""

from __future__ import annotations

LONGEST = 2000
"""Characters of a message; the names in it may come from a file that anybody has made."""


def one_line(text: object) -> str:
    """The text as one line without characters that steer a terminal or turn the writing around.

    Names in it may come from files that anybody has made: whatever they hold has to be harmless where it is shown.
    """
    line = " ".join("".join(c if c.isprintable() else " " if c.isspace() else "?" for c in str(text)).split())
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


class UnlearnError(Exception):
    """Something the artist can mend; the message is one visible line that says what to do next."""

    def __init__(self, message: object = ""):
        super().__init__(one_line(message))


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
