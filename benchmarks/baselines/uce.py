"""UCE (Gandikota et al. 2023, arXiv 2308.14761), closed form, one request after the other.

    W' = (sum W c* c^T + l_p sum W k k^T + l W) (sum c c^T + l_p sum k k^T + l I)^-1     (eq. 7)

for every key and value matrix of cross-attention, or where text enters a model that has none: the target's tokens c
answer as the anchor's c*, preserved tokens k as before. W is the model after the earlier requests. Preserved: prompts
of all other objects and styles of the checkpoint's word list and the general one, and what earlier requests have
edited, so that it stays edited. Tokens that do not change are left to the ridge term.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmarks.learned import Learned, under
from benchmarks.task import Task
from benchmarks.text_layers import text_readers
from unlearn_core.method.preserved import PreservedPrompts
from unlearn_core.method.text_reader import TextReader
from unlearn_core.method.token_moments import moment_of


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
        changes = {}
        with under(host, task.past) as backbone:
            parameters = dict(backbone.named_parameters())
            for reader in text_readers(host, backbone):
                left, right = self.solved(task, reader, anchor)
                for i, path in enumerate(reader.paths):
                    weight = parameters[f"{path}.weight"]
                    w = weight.cpu().double()
                    changes[f"{path}.weight"] = (w @ left @ right - w).to(weight.dtype)
                    task.tick((i + 1) / len(reader.paths))
        return Learned(concept, None, changes, (), anchor, task.pairs(task.mapped(anchor)), 0)

    def solved(self, task: Task, reader: TextReader, anchor: str) -> tuple[Tensor, Tensor]:
        """Both brackets of the formula with sums as means, the second inverted; float64 `[d, d]`."""
        edited, wanted = (reader.read(p).values for p in (task.prompts, task.mapped(anchor)))
        lists = [task.words, task.general]
        preserved = PreservedPrompts(lists, [task.request.concept], task.seed).moment(reader)
        if earlier := [p for one in task.past for p, _ in one.prompts]:
            preserved = preserved + moment_of(reader, earlier)
        c, goal = (t.reshape(-1, t.shape[-1]).cpu().double() for t in (edited, wanted))
        gram = c.T @ c / len(c)
        held = self.keep_scale * preserved.value + self.ridge * gram.diagonal().mean() * torch.eye(len(gram)).double()
        return goal.T @ c / len(c) + held, torch.linalg.inv(gram + held)
