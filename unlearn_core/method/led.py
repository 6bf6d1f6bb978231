"""How far a change leads prompts of the target to their anchors', told by text alone: no picture is drawn for it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..words.prompts import spread
from .closed_form import changes
from .prompt_pairs import Pair
from .run import Run

LAYERS = 8
"""Layers of each group that are asked: the closed form moves all of them alike."""


@torch.no_grad()
def led(run: Run, pairs: Sequence[Pair]) -> float:
    """E<X c, W (m(c) - c)> / E||W (m(c) - c)||^2 over the tokens c of some prompts; 1.0 where nothing tells.

    X: all that the stack and the request add to the base model's matrices W. 0: the layers answer as to the target,
    1: they go as far as their answers to the anchor. pairs: prompts, and what they are mapped onto.
    """
    along = length = 0.0
    factors, added = run.student.factors, run.base.changes
    for reader in run.readers:
        found = changes(reader, pairs)
        if found is None:
            return 1.0
        tokens, way = found[0].values.float(), found[1].float()
        for path in spread(reader.paths, LAYERS, 0):
            whole, answer = run.edits.weight(path).to(tokens.device).float(), torch.zeros((), device=tokens.device)
            if path in added:
                below = added[path].to(tokens.device).float()
                whole, answer = whole - below, tokens @ below.T
            if path in factors:
                down, up = (f.detach().to(tokens.device).float() for f in factors[path])
                answer = answer + tokens @ down.T @ up.T
            goal = way @ whole.T
            along, length = along + float((answer * goal).sum()), length + float(goal.pow(2).sum())
        run.job.pulse()
    return along / length if length else 1.0
