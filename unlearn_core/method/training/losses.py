"""The losses of arXiv 2512.02657 as functions of predicted directions d `[b, c, h, w]`, and the penalty on text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..adapters import Adapters
from ..token_moments import Moment

LOSS_SCALE = 4096.0
"""Losses are multiplied by it on their way back: in a float16 network small gradients would become zero."""


def go_back(loss: Tensor) -> None:
    """Add up the gradients of a loss; `ready` takes the scale off."""
    (LOSS_SCALE * loss).backward()


def ready(parameters: Sequence[nn.Parameter]) -> None:
    """Take the scale off the gradients, and clip them to norm 1."""
    for p in parameters:
        if p.grad is not None:
            p.grad.div_(LOSS_SCALE)
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)


def squared_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """|| d_S - sg d_T ||^2 per sample, mean over the elements, `[b]`.

    Re-steering where the teacher sees the mapped prompt, preservation where it sees the same one: L_unlearn and
    L_preserve of the paper.
    """
    return (student.float() - teacher.detach().float()).pow(2).flatten(1).mean(1)


def drift(factors: Iterable[tuple[Tensor, Tensor, float]]) -> Tensor:
    """Sum of ||s B A||_F^2 over (A `[..., r, in]`, B `[..., out, r]`, s), without forming the product:

    s^2 tr((B^T B)(A A^T)).
    """
    parts = (s * s * ((b.mT @ b) * (a @ a.mT)).sum() for a, b, s in factors)
    return sum(parts, start=torch.zeros(()))


def preserved_change(down: Tensor, up: Tensor, moment: Tensor) -> Tensor:
    """E || B A c ||^2 over tokens c, without forming B A: tr((B^T B)(A S A^T)), S = E[c c^T] `[d, d]`.

    A `[..., r, d]`, B `[..., out, r]` -> `[...]`. Zero exactly when the delta leaves every one of these tokens alone.
    """
    return ((up.mT @ up) * (down @ moment @ down.mT)).sum((-2, -1))


@dataclass(frozen=True)
class PreservationPenalty:
    """How much of the change is felt by the words that are to stay, in the layers that read text.

    Replay needs the teacher's pictures and can cover some dozens of prompts; words alone cost nothing. Preserved ones
    are held where the base model has them, so that the small errors of many deltas do not add up; those of earlier
    targets where the stack has put them.

    preserved: second moment of the preserved tokens, `[d, d]`, in its share of all; all: those of earlier targets too.
    answers: {path: E || W c ||^2}. moved: {path: (D `[out, d]`, E || D k ||^2)} where the stack has added D.
    """

    preserved: Tensor
    all: Tensor
    answers: dict[str, float]
    moved: dict[str, tuple[Tensor, Tensor]]

    @classmethod
    def make(
        cls,
        weights: Mapping[str, Tensor],
        preserved: Moment,
        erased: Moment | None,
        earlier: Mapping[str, Tensor],
        device: torch.device,
    ) -> PreservationPenalty:
        """For layers that read one and the same text, {path: W `[out, d]`}; the moments are those of what they read.

        earlier: {path: all that the stack adds `[out, d]`}, held as it is. device: where the adapters are, which is not
        where a host keeps the weights of a model that is only in part on the card.
        """
        both = preserved if erased is None else preserved + erased
        share, moment = preserved.value * (preserved.prompts / both.prompts), both.value
        answers = {}
        for path, weight in weights.items():
            w = weight.cpu().double()
            answers[path] = float(((w @ moment) * w).sum())
        share, moment = (m.float().to(device) for m in (share, moment))
        held = {p: earlier[p].to(device) for p in earlier if p in answers}
        moved = {p: (d, ((d.float() @ share) * d.float()).sum()) for p, d in held.items()}
        return cls(share, moment, answers, moved)

    def __call__(self, adapters: Adapters) -> Tensor:
        """Mean relative change of the layers' answers, no unit.

        (E||(D + BA) k||^2 + E||BA e||^2) / E||Wc||^2 over preserved tokens k and erased ones e, D being all that the
        stack has added. Multiplied out, so that BA is never formed: E||BAc||^2 over all tokens + 2 tr(D S (BA)^T) +
        E||Dk||^2, S = E[k k^T].
        """
        total, still = torch.zeros(()), [p for p in self.answers if p not in self.moved]
        for paths, down, up in (*adapters.alike(self.moved), *adapters.alike(still)):
            change = preserved_change(down, up, self.all)
            if paths[0] in self.moved:
                added, before = zip(*(self.moved[p] for p in paths), strict=True)
                ways = self.preserved @ down.mT
                crossed = [(a.float() @ way * b).sum() for a, way, b in zip(added, ways, up, strict=True)]
                change = change + 2 * torch.stack(crossed) + torch.stack(before)
            total = total + (change / torch.tensor([self.answers[p] for p in paths]).to(down)).sum()
        return total / len(self.answers)
