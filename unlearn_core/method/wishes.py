"""Several concepts of one wish: one request each, one on top of the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..config import ForgetConfig
from ..delta.format import Delta
from ..delta.stack import Stack
from ..host import HostModel
from ..progress import Progress
from ..words.wish import Wish, read_wish
from ..words.word_list import WordList
from .forget import Result, forget
from .request import asked_for


def read_requests(values: Mapping[str, Any], words_file: str | None, stack: Stack) -> tuple[Wish, list[ForgetConfig]]:
    """(how the wish was understood, one request for each concept), from settings by name as a door has them.

    words_file: the checkpoint's word list. Raises `BadSetting` before any work: for a wish that is unclear, for
    settings that contradict each other, and for what the stack has already forgotten.
    """
    lists = [WordList.load(words_file), WordList.load(None)]
    wish = read_wish(str(values.get("concept", "")), lists)
    configs = []
    for number, concept in enumerate(wish.concepts):
        own = {"concept": concept, "going": wish.concepts[number + 1 :]}
        configs.append(ForgetConfig.from_flat({**values, **own}))
        asked_for(configs[-1], lists, stack)
    return wish, configs


def forget_each(
    host: HostModel,
    configs: Sequence[ForgetConfig],
    stack: Stack,
    progress: Callable[[int, int], Progress | None] = lambda number, count: None,
    keep: Callable[[int, Result], Delta] = lambda number, result: result.delta,
) -> Iterator[tuple[Result, Stack]]:
    """(result, the stack with its delta on top) of each request, as soon as it is ready.

    progress: gives the callback for a request's number out of all. keep: called with the number and the result (to
    save it); what it returns goes onto the stack. Ends after a run that was stopped. Raises what `forget` raises.
    """
    for number, config in enumerate(configs):
        result = forget(host, config, stack, progress(number, len(configs)))
        stack = stack.with_delta(keep(number, result))
        yield result, stack
        if result.report["stopped"]:
            return
