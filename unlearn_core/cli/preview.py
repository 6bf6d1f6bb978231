"""python -m unlearn_core preview."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..config import check, settings
from ..delta.outputs import PICTURE_SIZE, Output, prepare
from ..delta.paths import read_with
from ..delta.stack import Stack
from ..errors import BadSetting, one_line
from ..host import check_stack
from ..sampling import Sampler
from .console import check_is_there, deltas_read, print_notes, read_stack
from .progress_bar import Counter


def run_preview(args: argparse.Namespace) -> int:
    """First row without, second row with the stack."""
    from ..picture_file import save_pictures
    from ..preview import pictures
    from ..standalone.model import StandaloneModel

    if any("\udc80" <= letter <= "\udcff" for prompt in args.prompts for letter in prompt):
        raise BadSetting("A prompt holds bytes that are no text in this console's encoding: type it again.")
    check_is_there(args.checkpoint)
    outputs = [Output("--out", args.out, ".png", PICTURE_SIZE)]
    prepare(outputs, [*read_with(args.checkpoint), *deltas_read(args.stack)])
    check(next(f for f in settings() if f.name == "seed"), args.seed)
    if not (1 <= args.steps <= 1000 and 1 <= args.guidance <= 30):
        raise BadSetting("Steps have to be from 1 to 1000 and guidance from 1 to 30.")
    stack = read_stack(args.stack)
    host = StandaloneModel(args.checkpoint, args.device, prediction_type=args.prediction)
    check_stack(host, stack)
    print_notes([*host.notes, *told_of_cuts(host.cut(args.prompts))])
    sampler, stacks = Sampler(host, args.steps, args.guidance), [Stack(), stack] if len(stack) else [Stack()]
    with Counter("drawing", len(stacks) * sampler.ticks(len(args.prompts))) as counter:
        sampler = replace(sampler, tick=counter.tick)
        rows = [pictures(sampler, s, args.prompts, args.seed) for s in stacks]
    save_pictures(args.out, args.prompts, rows[0], rows[1] if len(rows) > 1 else None)
    print(f"pictures: {args.out.resolve()}")
    return 0


def told_of_cuts(prompts: Sequence[str]) -> Iterator[str]:
    """A sentence for each prompt whose end plays no part."""
    for prompt in prompts:
        yield f"'{one_line(prompt)[:40]}...' is longer than the 75 tokens that are read: its end plays no part."
