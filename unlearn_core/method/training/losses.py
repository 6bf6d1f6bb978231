"""The three losses of arXiv 2512.02657 as pure functions of predicted directions d `[b, c, h, w]`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..adapters import Adapters
from ..text_layers import guarded
from ..token_moments import Moment


@dataclass(frozen=True)
class TextGuard:
    """Second moments of the tokens to hold, `[d, d]`, each in its share of all, and what the layers answer to them.

    kept: tokens of what nobody wants gone; all: those of earlier targets too. answers: {path: E || W c ||^2} of the
    layers that read text. moved: {path: (D `[out, d]`, E || D k ||^2)} where the stack has added D.
    """

    kept: Tensor
    all: Tensor
    answers: dict[str, float]
    moved: dict[str, tuple[Tensor, Tensor]]

    @classmethod
    def make(
        cls,
        adapters: Adapters,
        kept: Moment,
        erased: Moment | None = None,
        earlier: Mapping[str, Tensor] = {},
    ) -> TextGuard:
        """Guard all adapted layers whose input has the width of the tokens and is text.

        earlier: {path: all that the stack adds `[out, d]`}, held as it is.
        """
        both = kept if erased is None else kept + erased
        share, moment = kept.value * (kept.sentences / both.sentences), both.value
        answers = {}
        for path in adapters.factors:
            weight = adapters.weight(path)
            if guarded(path) and weight.shape[1] == len(moment):
                w = weight.cpu().double()
                answers[path] = float(((w @ moment) * w).sum())
        share, moment = (m.float().to(adapters.parameters()[0].device) for m in (share, moment))
        moved = {p: (d, ((d.float() @ share) * d.float()).sum()) for p, d in earlier.items() if p in answers}
        return cls(share, moment, answers, moved)

    def penalty(self, adapters: Adapters) -> Tensor:
        """Mean relative change of the guarded layers' answers, no unit: (E||(D + BA) k||^2 + E||BA e||^2) / E||Wc||^2

        over kept tokens k and erased ones e, D being all that the stack has added. Multiplied out, so that BA is never
        formed: E||BAc||^2 over all tokens + 2 tr(D S (BA)^T) + E||Dk||^2, S = E[k k^T].
        """
        total, still = 0.0, [p for p in self.answers if p not in self.moved]
        for paths, down, up in (*adapters.alike(self.moved), *adapters.alike(still)):
            change = kept_change(down, up, self.all)
            if paths[0] in self.moved:
                added, before = zip(*(self.moved[p] for p in paths), strict=True)
                ways = self.kept @ down.mT
                crossed = [(a.float() @ way * b).sum() for a, way, b in zip(added, ways, up, strict=True)]
                change = change + 2 * torch.stack(crossed) + torch.stack(before)
            total = total + (change / torch.tensor([self.answers[p] for p in paths]).to(down)).sum()
        return total / len(self.answers)


def kept_change(down: Tensor, up: Tensor, moment: Tensor) -> Tensor:
    """E || B A c ||^2 over kept tokens c, without forming B A: tr((B^T B)(A S A^T)), S = E[c c^T] `[d, d]`.

    A `[..., r, d]`, B `[..., out, r]` -> `[...]`.
    A soft null space as a penalty: it is zero exactly when the delta leaves every kept token alone.
    """
    return ((up.mT @ up) * (down @ moment @ down.mT)).sum((-2, -1))


def squared_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """|| d_S - sg d_T ||^2 per sample, mean over the elements, `[b]`: re-steering (teacher sees the mapped prompt)
    and preservation (teacher sees the same prompt), eqs. L_unlearn and L_preserve."""
    return (student.float() - teacher.detach().float()).pow(2).flatten(1).mean(1)


def drift(factors: Iterable[tuple[Tensor, Tensor, float]]) -> Tensor:
    """Sum of ||s B A||_F^2 over (A `[..., r, in]`, B `[..., out, r]`, s), without forming the product:

    s^2 tr((B^T B)(A A^T)).
    """
    return sum(s * s * ((b.mT @ b) * (a @ a.mT)).sum() for a, b, s in factors)
