"""UCE (Gandikota et al. 2023, arXiv 2308.14761), closed form, one request after the other.

    W' = (sum W c* c^T + l_p sum W k k^T + l W) (sum c c^T + l_p sum k k^T + l I)^-1     (eq. 7)

for every key and value matrix of cross-attention: the target's tokens c answer as the anchor's c*, preserved tokens k
as before. W is the model after the earlier requests. Preserved: prompts of all other objects and styles of the
checkpoint's word list and the general one, and what earlier requests have edited, so that it stays edited. Tokens that
do not change are left to the ridge term.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from benchmarks.learned import Learned, under
from benchmarks.task import Task
from unlearn_core.method.preserved import PreservedPrompts
from unlearn_core.method.text_layers import is_target
from unlearn_core.method.text_reader import TextReader
from unlearn_core.method.token_moments import moment_of
from unlearn_core.words.word_list import WordList


@dataclass(frozen=True)
class UCE:
    """Settings of the paper's code, sums as means; `GRID` is what `search` tries."""

    name: ClassVar[str] = "uce"
    label: ClassVar[str] = "UCE, closed form"
    GRID: ClassVar[dict] = {"keep_scale": (1.0, 10.0, 100.0), "ridge": (1e-3, 1e-2)}
    keep_scale: float = 1.0
    ridge: float = 1e-2

    @torch.no_grad()
    def learn(self, task: Task) -> Learned:
        """Edit one request on top of the earlier ones."""
        host, concept = task.host, task.request.concept
        anchor = task.request.anchor or task.nearest()[0]
        edited, wanted = (host.encode(p).tokens for p in (task.prompts, task.mapped(anchor)))
        preserved = PreservedPrompts([task.words, WordList.load(None)], [concept], task.seed).moment(TextReader(host))
        if earlier := [p for one in task.past for p, _ in one.prompts]:
            preserved = preserved + moment_of(TextReader(host), earlier)
        c, goal = (t.reshape(-1, t.shape[-1]).cpu().double() for t in (edited, wanted))
        eye = torch.eye(c.shape[1], dtype=c.dtype)
        gram = c.T @ c / len(c)
        held = self.keep_scale * preserved.value + self.ridge * gram.diagonal().mean() * eye
        right = torch.linalg.inv(gram + held)
        changes = {}
        with under(host, task.past) as backbone:
            matrices = {n: p for n, p in backbone.named_parameters() if is_target(n, "kv")}
            for i, (name, weight) in enumerate(matrices.items()):
                w = weight.cpu().double()
                changes[name] = (w @ (goal.T @ c / len(c) + held) @ right - w).to(weight.dtype)
                task.tick((i + 1) / len(matrices))
        return Learned(concept, None, changes, (), anchor, task.pairs(task.mapped(anchor)), 0)
