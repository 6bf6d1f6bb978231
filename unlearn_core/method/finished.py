"""What an earlier run of the same request had finished: a delta that is there need not be made again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..config import ForgetConfig
from ..delta.base_sample import Base
from ..delta.format import Delta, load
from ..delta.stack import Stack
from ..errors import BadDelta, BadSetting, one_line

Model = tuple[Base, str]
"""A model, and what it is taken to predict."""


def finished(file: Path, config: ForgetConfig, model: Model, stack: Stack | None = None) -> Delta | None:
    """The delta in `file` that this request has made; None where there is none yet, or a stopped run's.

    stack: what it has to be made on top of; None while that is not known. Raises `BadSetting` when another request or
    no request at all made the file: it is not to be overwritten.
    """
    delta = there(file, config, model)
    if delta is not None and stack is not None:
        check_parents(file, delta, stack)
    return None if delta is None or delta.info.stopped else delta


def there(file: Path, config: ForgetConfig, model: Model) -> Delta | None:
    """The delta in `file`, a stopped run's too; None where no file is. Raises `BadSetting` for what is not to go."""
    if not file.exists():
        return None
    try:
        delta = load(file)
    except BadDelta as e:
        raise BadSetting(f"{file} is in the way ({e}) Choose another place, or delete it.") from e
    if not made_for(delta, model) or delta.info.config != config.deciding():
        raise of_another_request(file)
    return delta


def made_for(delta: Delta, model: Model) -> bool:
    """Whether a delta was made for a model, with numbers of whatever type."""
    (base, prediction_type), info = model, delta.info
    return info.prediction_type == prediction_type and base.made(info.base_fingerprint, info.base_sample)


def check_parents(file: Path, delta: Delta, stack: Stack) -> None:
    """Raise `BadSetting` for a delta that was made on top of anything else."""
    if delta.info.parents != stack.parents():
        raise of_another_request(file)


def of_another_request(file: Path) -> BadSetting:
    """What to raise for a delta that is not to be overwritten."""
    return BadSetting(f"{file} is there already, made by another request: choose another place, or delete it.")


def order_of(files: Sequence[Path], found: Sequence[Delta | None], stack: Stack, on_top: bool) -> list[int]:
    """The numbers of a list's deltas in the order in which they are made on top of `stack`.

    found: what is `there` of each. What is finished stays on what it was made on, also where that has to be made again,
    to the same bytes. on_top: whatever else is not finished comes after it; without, it has its place in the list,
    where what was withheld will be withheld again. Raises `BadSetting` for a delta that was made on something else.
    """
    names = [one_line(file.stem) for file in files]
    lines = [(f, d, line_of(f, d, stack, names)) for f, d in zip(files, found, strict=True) if d]
    # what a stopped run has left will be made anew, wherever it stood
    whole = [line for _, delta, line in lines if not delta.info.stopped]
    longest = max(whole, key=len, default=[])
    for file, delta, line in lines:
        if line != longest[: len(line)] and not delta.info.stopped:
            raise of_another_request(file)
    order = [names.index(name) for name, _ in longest]
    for i in sorted({*range(len(files))}.difference(order)):
        later = (place for place, other in enumerate(order) if other > i and not on_top)
        order.insert(next(later, len(order)), i)
    return order


def line_of(file: Path, delta: Delta, stack: Stack, names: Sequence[str]) -> list[tuple[str, str]]:
    """(name, content) of each delta of a list that one of it was made on, lowest first, and of itself.

    names: of the list. Raises `BadSetting` where it was made on anything else above `stack`.
    """
    below, own = stack.parents(), delta.info.parents
    above = own[len(below) :]
    line = {p.name: p.sha256 for p in above} | {one_line(file.stem): delta.content_hash()}
    whole = len(line) == len(above) + 1 and all(p.strength == 1 for p in above)
    if own[: len(below)] != below or not whole or not line.keys() <= {*names}:
        raise of_another_request(file)
    return [*line.items()]
